"""Whether a batch and its images' rows can be shared out among devices, and what would fit."""

from danet_jax.base.errors import UserError

# The axes of a mesh of devices: examples are spread over the first, their rows over the second.
AXES = ("data", "space")
# Batches above this want a warm-up of the learning rate.
_LARGE = 16


def check_space(space: int, *, devices: int, of_process: int, where: str = "") -> None:
    """Raises a UserError where so many devices cannot share the rows of an image.

    They are devices of one process, or all devices of several.
    """
    within = space >= 1 and not of_process % space
    across = space >= 1 and not space % of_process and not devices % space
    if within or across:
        return
    several = ""
    if devices > of_process:
        several = f", nor is it a multiple of them that divides all {devices}"
    raise UserError(
        f"config.mesh.space is {space}, which does not divide the {of_process} devices of a "
        f"process{where}{several}."
    )


def check_shares(
    *, batch_size: int, height: int, devices: int, space: int, of_process: int, where: str = ""
) -> None:
    """Raises a UserError that names what would fit, where a step cannot be shared out.

    Args:
      batch_size: examples that are computed at a time, on all devices.
      height: rows of an example.
      devices: how many there are.
      space: how many of them share the rows of an example.
      of_process: how many of them are one process's.
      where: words for the message that follow the devices, such as " of v5e:4x4".
    """
    check_space(space, devices=devices, of_process=of_process, where=where)
    if height % space:
        raise UserError(
            f"The height {height} of config.data.crop_size does not divide over config.mesh.space "
            f"{space}."
        )
    groups = devices // space
    if batch_size % groups == 0:
        return
    wider = [
        other
        for other in range(space + 1, devices + 1)
        if not (of_process % other and (other % of_process or devices % other))
        and not height % other
        and not batch_size % (devices // other)
    ]
    instead = ""
    if wider:
        across = ", across hosts" if wider[0] > of_process else ""
        instead = f", or let devices share images{across}: --config.mesh.space={wider[0]}"
    larger = ""
    if groups > _LARGE:
        larger = f" and a learning rate in proportion (recipe=large_batch,batch={groups} does both)"
    sharing = f" groups of {space} devices" if space > 1 else " devices"
    raise UserError(
        f"A batch of {batch_size} (config.train.batch_size over accumulation_steps) does not "
        f"divide over {groups}{sharing}{where}: choose a multiple of {groups}{larger}{instead}."
    )
