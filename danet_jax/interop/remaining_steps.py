"""What an exported file leaves to its user, as sentences for the manifest."""

from danet_jax.evaluation.settings import InferenceSettings


def remaining_steps(run: InferenceSettings, inside: InferenceSettings) -> list[str]:
    """Returns the steps by which the user of a file gets the labels of the run's `predict`.

    Args:
      run: the settings of the run.
      inside: those that the file applies itself.
    """
    if run == inside:
        return []
    steps = [
        f"The run's predict has other settings than the file ({run.describe()}); for the same "
        "labels, follow these steps around the file:"
    ]
    scales = ", ".join(f"{scale:g}" for scale in run.scales)
    if run.short_side:
        limit = (
            f", or to a long side of {run.base_size} pixels times the scale where that is smaller"
            if run.base_size
            else ""
        )
        steps.append(
            f"for each scale of {scales} resize the image (bilinear, not antialiased) to a short "
            f"side of {run.short_side} pixels times the scale, rounded down{limit}, the other side "
            "in proportion;"
        )
    elif run.base_size or run.scales != (1.0,):
        side = f"{run.base_size} pixels" if run.base_size else "its own"
        steps.append(
            f"for each scale of {scales} resize the image (bilinear, not antialiased) to a long "
            f"side of {side} times the scale, rounded up, the other side in proportion;"
        )
    if run.mode == "slide":
        assert run.crop_size is not None
        overhang = run.merge == "original"
        stride = run.stride
        steps.append(
            f"cut windows of {run.crop_size}×{run.crop_size} every {stride} pixels, "
            + ("the last beyond the end" if overhang else "the last shifted back inside")
            + ", black where there is no image, and average their scores at each pixel;"
        )
    if run.flip:
        steps.append("repeat all of this for the mirrored image, and mirror its scores back;")
    mean = "the mean of the softmax probabilities"
    if run.merge == "original":
        mean = "the exponential of the " + ("sum of both views' logits" if run.flip else "logits")
    steps.append(
        f"take {mean} as scores, resize them to the image's size, add them over scales, and choose "
        "the class with the highest one at each pixel."
    )
    return steps
