"""`push`: writes a weights folder to a hub."""

import argparse

from danet_jax.base.texts import one_line, show
from danet_jax.base.wording import listed
from danet_jax.interop import hub, weights_files


def run(args: argparse.Namespace) -> None:
    # No command line of this needs JAX: arrays are sent as they are, and are checked by checksums.
    hub.check_repository(args.repo, shown=f"--repo {args.repo}")
    hub.check_revision(args.revision, shown="--revision")
    weights_files.check_files(args.folder, weights_files.read_manifest(args.folder))
    weights_files.check_licence(args.folder)
    address = hub.Address(args.repo, args.revision)
    upload = hub.Upload(address, private=args.private)
    is_new = upload.check()
    which = f"a new {'private' if args.private else 'public'} repository" if is_new else "there"
    show(f"to {upload.place} ({which}), revision {args.revision}:")
    for name in weights_files.FILES:
        show(f"  {name}  {(args.folder / name).stat().st_size:,} bytes")
    if others := weights_files.others_in(args.folder):
        show(f"not of the format, and not sent: {listed(map(one_line, others))}")
    show(f"written: {upload.send(args.folder, weights_files.FILES, make=is_new)}")
