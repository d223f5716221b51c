"""mmsegmentation's DANet, built live with random weights in which every part matters."""

import sys
import types
import warnings

import torch

_NORM = {"type": "BN", "requires_grad": True}


class _Absent(types.ModuleType):
    """Stands for `mmcv.ops`, whose compiled operators no network here uses."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def encoder_decoder(
    depth: int, *, num_classes: int, dropout: float = 0.0, seed: int = 0
) -> torch.nn.Module:
    """An EncoderDecoder of ResNetV1c, DAHead and an FCNHead on layer 3."""
    sys.modules.setdefault("mmcv.ops", _Absent("mmcv.ops"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mmseg.models  # noqa: F401 (registers them)
        from mmseg.registry import MODELS

        head = {"num_classes": num_classes, "norm_cfg": _NORM, "align_corners": False}
        head |= {"dropout_ratio": dropout, "loss_decode": {"type": "CrossEntropyLoss"}}
        model = MODELS.build(
            {
                "type": "EncoderDecoder",
                "backbone": {
                    "type": "ResNetV1c",
                    "depth": depth,
                    "num_stages": 4,
                    "out_indices": (0, 1, 2, 3),
                    "dilations": (1, 1, 2, 4),
                    "strides": (1, 2, 1, 1),
                    "norm_cfg": _NORM,
                    "norm_eval": False,
                    "style": "pytorch",
                    "contract_dilation": True,
                },
                "decode_head": {
                    "type": "DAHead",
                    "in_channels": 2048,
                    "in_index": 3,
                    "channels": 512,
                    "pam_channels": 64,
                    **head,
                },
                "auxiliary_head": {
                    "type": "FCNHead",
                    "in_channels": 1024,
                    "in_index": 2,
                    "channels": 256,
                    "num_convs": 1,
                    "concat_input": False,
                    **head,
                },
                "train_cfg": {},
                "test_cfg": {"mode": "whole"},
            }
        )
    _randomize(model, seed)
    return model


def _randomize(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, array in model.state_dict().items():
        z = torch.randn(array.shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("gamma.scale"):
            array.copy_(0.5 + 0.1 * z)
        elif name.endswith("running_var"):
            array.copy_(1 + 0.1 * z.abs())
        elif array.ndim == 4:
            array.copy_(z * (2 / array[0].numel()) ** 0.5)
        elif name.endswith("weight"):
            # Residual branches add up over dozens of blocks.
            array.copy_((1 + 0.1 * z) * (0.25 if ".bn3." in name else 1))
        else:
            array.copy_(0.1 * z)


def logits(
    model: torch.nn.Module, image: torch.Tensor, *, auxiliary: bool = True
) -> dict[str, torch.Tensor]:
    """The logits at feature stride, NCHW, by our names."""
    features = model.extract_feat(image)
    maps = dict(zip(("fused", "position", "channel"), model.decode_head(features), strict=True))
    return maps | ({"auxiliary": model.auxiliary_head(features)} if auxiliary else {})
