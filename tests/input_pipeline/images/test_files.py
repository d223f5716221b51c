import os
import socket

import pytest

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images import files as image_files
from danet_jax.input_pipeline.images.files import Listing, find_images, list_folder, read_file


def touch(*files):
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")


def below(folder, paths):
    return [path.relative_to(folder).as_posix() for path in paths]


def test_files_of_a_folder_are_sorted_by_what_they_are(tmp_path):
    images = ["a.png", "b.JPG", "sub/c.tiff", "sub/deep/d.webp"]
    sidecars = ["a.aux.xml", "b.jgw", "sub/c.tif.ovr"]
    touch(*(tmp_path / name for name in (*images, *sidecars, "notes.txt", "photo.heic")))
    # What disk stations, archives and systems leave.
    touch(
        *(
            tmp_path / name
            for name in ("._a.png", ".git/e.png", "@eaDir/a.png/T.jpg", "__MACOSX/a.png")
        ),
        tmp_path / "sub" / "Thumbs.db",
    )
    listing = list_folder(tmp_path)
    assert below(tmp_path, listing.images) == images
    assert below(tmp_path, listing.sidecars) == sidecars
    assert below(tmp_path, listing.others) == ["notes.txt", "photo.heic"]
    assert listing.left_out == []
    assert find_images(tmp_path) == listing
    assert find_images(tmp_path / "a.png") == Listing(images=[tmp_path / "a.png"])
    assert below(tmp_path, list_folder(tmp_path, extensions=(".txt",)).images) == ["notes.txt"]


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path):
    touch(
        tmp_path / "elsewhere" / "b.png", tmp_path / "in" / "a.png", tmp_path / "in" / "x" / "c.png"
    )
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "x" / "up").symlink_to("..")
    (tmp_path / "in" / "root").symlink_to("/")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to("nowhere")
    (tmp_path / "in" / "itself.png").symlink_to("itself.png")
    (tmp_path / "in" / "linked.png").symlink_to("a.png")
    listing = list_folder(tmp_path / "in")
    assert below(tmp_path / "in", listing.images) == [
        "a.png",
        "link/b.png",
        "linked.png",
        "x/c.png",
    ]
    assert [line.removeprefix(f"{tmp_path}/in/") for line in listing.left_out] == [
        "gone.png: a link to nothing",
        "itself.png: a link to nothing",
        "link/back: a link to a folder that contains it",
        "root: a link to a folder that contains it",
        "x/up: a link to a folder that contains it",
    ]


def test_folders_that_link_to_each_other_come_to_an_end(tmp_path):
    folders = [tmp_path / str(index) for index in range(9)]
    for folder in folders:
        touch(folder / "a.png")
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    # 9 real ones; behind one link 8 others, behind two 7 further ones, behind three 6.
    assert len(list_folder(tmp_path).images) == 9 * (1 + 8 + 8 * 7 + 8 * 7 * 6)


def test_what_never_ends_is_left_out_with_a_word(tmp_path, monkeypatch):
    touch(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # addresses of sockets are short
        server.bind("socket.tif")
        listing = find_images(tmp_path)
    assert below(tmp_path, listing.images) == ["a.png"]
    assert [line.removeprefix(f"{tmp_path}/") for line in listing.left_out] == [
        "pipe.png: a named pipe",
        "socket.tif: a socket",
        "zero.jpg: a device",
    ]
    for name in ("pipe.png", "socket.tif", "zero.jpg"):
        with pytest.raises(DataError, match=f"{name}: a .*, not an image file"):
            find_images(tmp_path / name)
        with pytest.raises(DataError, match="not an image file"):
            read_file(tmp_path / name)


def test_what_is_no_image_is_named(tmp_path):
    touch(tmp_path / "notes.txt")
    with pytest.raises(DataError, match=r"notes\.txt: not an image by its name"):
        find_images(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        find_images(tmp_path / "nowhere")
    (tmp_path / "void").mkdir()
    (tmp_path / "void" / "a.png").symlink_to("/dev/null")
    with pytest.raises(DataError, match=r"void: no image .* looked for png, jpg.*a\.png: a device"):
        find_images(tmp_path / "void")
    with pytest.raises(DataError, match="nowhere: No such file"):
        list_folder(tmp_path / "nowhere")


def test_files_are_read_as_far_as_they_have_a_size(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"content")
    assert read_file(tmp_path / "a.png") == b"content"
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match="empty file"):
        read_file(tmp_path / "empty.png")
    # Files of /proc have no size and can be endless; this one fails as bad disks do.
    with pytest.raises(DataError, match="no ordinary file"):
        read_file("/proc/self/maps")
    with pytest.raises(DataError, match="cannot be read: Input/output error"):
        read_file("/proc/self/mem")
    monkeypatch.setattr(image_files, "LARGEST_FILE", 6)
    with pytest.raises(DataError, match="an image has at most"):
        read_file(tmp_path / "a.png")
