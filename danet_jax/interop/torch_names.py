"""The names of a network's arrays elsewhere: one table for each family of checkpoints."""

import dataclasses
from collections.abc import Iterable, Mapping

# A leaf of the variables as "backbone.layer1_0.conv1.kernel", without "params" and "batch_stats".
Name = str

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


@dataclasses.dataclass(frozen=True)
class Naming:
    """How one family of checkpoints names a network's modules.

    Our name → theirs; the blocks of the backbone follow torchvision in all families.
    """

    title: str
    # The prefix of all names in the backbone.
    backbone: str
    plain_stem: Mapping[str, str]
    deep_stem: Mapping[str, str]
    # Modules below "head." and "auxiliary_head."; a gamma is an array and stands for itself.
    heads: Mapping[str, str]
    # The head of the dilated FCN, which has no attention.
    plain_head: Mapping[str, str]
    # Prefixes of arrays that a checkpoint may hold and no segmentation network has.
    unused: tuple[str, ...] = ()

    def names(self, ours: Iterable[Name]) -> dict[Name, str]:
        """Maps the names of a network's arrays to this family's, where it has one."""
        wanted = tuple(ours)
        deep = any(name.startswith("backbone.stem_conv2.") for name in wanted)
        plain = any(name.startswith("head.plain_in.") for name in wanted)
        stem = self.deep_stem if deep else self.plain_stem
        modules = {
            f"backbone.{module}": f"{self.backbone}{theirs}" for module, theirs in stem.items()
        }
        modules |= self.heads
        if plain:
            modules |= self.plain_head
        theirs_by_name = {}
        for name in wanted:
            module, _, leaf = name.rpartition(".")
            if name in modules:  # gamma
                theirs_by_name[name] = modules[name]
            elif module in modules:
                theirs_by_name[name] = f"{modules[module]}.{_LEAVES[leaf]}"
            elif module.startswith("backbone.layer"):
                theirs_by_name[name] = f"{self.backbone}{_block(module)}.{_LEAVES[leaf]}"
        return theirs_by_name


def _block(module: str) -> str:
    """backbone.layer1_0.downsample_bn → layer1.0.downsample.1"""
    _, layer, inner = module.split(".")
    inner = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}.get(inner, inner)
    return f"{layer.replace('_', '.')}.{inner}"


_PLAIN_STEM = {"stem_conv1": "conv1", "stem_bn1": "bn1"}
# The deep stem is a sequence in the place of conv1, whose last norm is outside it, as bn1.
_DEEP_STEM = {
    "stem_conv1": "conv1.0",
    "stem_bn1": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_bn2": "conv1.4",
    "stem_conv3": "conv1.6",
    "stem_bn3": "bn1",
}
_V1C_STEM = {
    "stem_conv1": "stem.0",
    "stem_bn1": "stem.1",
    "stem_conv2": "stem.3",
    "stem_bn2": "stem.4",
    "stem_conv3": "stem.6",
    "stem_bn3": "stem.7",
}

# junfu1115/DANet, tag v0.5.0 and HEAD.
ORIGINAL = Naming(
    title="the original's",
    backbone="pretrained.",
    plain_stem=_PLAIN_STEM,
    deep_stem=_DEEP_STEM,
    heads={
        "head.position_in.conv": "head.conv5a.0",
        "head.position_in.bn": "head.conv5a.1",
        "head.position_attention.query": "head.sa.query_conv",
        "head.position_attention.key": "head.sa.key_conv",
        "head.position_attention.value": "head.sa.value_conv",
        "head.position_attention.gamma": "head.sa.gamma",
        "head.position_out.conv": "head.conv51.0",
        "head.position_out.bn": "head.conv51.1",
        "head.position_classifier.conv": "head.conv6.1",
        "head.channel_in.conv": "head.conv5c.0",
        "head.channel_in.bn": "head.conv5c.1",
        "head.channel_attention.gamma": "head.sc.gamma",
        "head.channel_out.conv": "head.conv52.0",
        "head.channel_out.bn": "head.conv52.1",
        "head.channel_classifier.conv": "head.conv7.1",
        "head.fused_classifier.conv": "head.conv8.1",
        "auxiliary_head.in.conv": "auxlayer.conv5.0",
        "auxiliary_head.in.bn": "auxlayer.conv5.1",
        "auxiliary_head.classifier.conv": "auxlayer.conv5.4",
    },
    plain_head={
        "head.plain_in.conv": "head.conv5.0",
        "head.plain_in.bn": "head.conv5.1",
        "head.fused_classifier.conv": "head.conv5.4",
    },
    unused=("pretrained.fc.",),
)

# open-mmlab/mmsegmentation, ResNet or ResNetV1c with DAHead or FCNHead.
MMSEGMENTATION = Naming(
    title="mmsegmentation's",
    backbone="backbone.",
    plain_stem=_PLAIN_STEM,
    deep_stem=_V1C_STEM,
    heads={
        "head.position_in.conv": "decode_head.pam_in_conv.conv",
        "head.position_in.bn": "decode_head.pam_in_conv.bn",
        "head.position_attention.query": "decode_head.pam.query_project",
        "head.position_attention.key": "decode_head.pam.key_project",
        "head.position_attention.value": "decode_head.pam.value_project",
        "head.position_attention.gamma": "decode_head.pam.gamma.scale",
        "head.position_out.conv": "decode_head.pam_out_conv.conv",
        "head.position_out.bn": "decode_head.pam_out_conv.bn",
        "head.position_classifier.conv": "decode_head.pam_conv_seg",
        "head.channel_in.conv": "decode_head.cam_in_conv.conv",
        "head.channel_in.bn": "decode_head.cam_in_conv.bn",
        "head.channel_attention.gamma": "decode_head.cam.gamma.scale",
        "head.channel_out.conv": "decode_head.cam_out_conv.conv",
        "head.channel_out.bn": "decode_head.cam_out_conv.bn",
        "head.channel_classifier.conv": "decode_head.cam_conv_seg",
        "head.fused_classifier.conv": "decode_head.conv_seg",
        "auxiliary_head.in.conv": "auxiliary_head.convs.0.conv",
        "auxiliary_head.in.bn": "auxiliary_head.convs.0.bn",
        "auxiliary_head.classifier.conv": "auxiliary_head.conv_seg",
    },
    plain_head={
        "head.plain_in.conv": "decode_head.convs.0.conv",
        "head.plain_in.bn": "decode_head.convs.0.bn",
    },
)

# torchvision's and timm's ResNets, and ResNet-s: a backbone alone.
TORCHVISION = Naming(
    title="torchvision's",
    backbone="",
    plain_stem=_PLAIN_STEM,
    deep_stem=_DEEP_STEM,
    heads={},
    plain_head={},
    unused=("fc.",),
)

# The ImageNet weights that mmsegmentation starts ResNetV1c from.
V1C = dataclasses.replace(TORCHVISION, title="ResNetV1c's", deep_stem=_V1C_STEM)

NAMINGS = (ORIGINAL, MMSEGMENTATION, TORCHVISION, V1C)
