"""The same network in PyTorch, under the original's names, for ONNX and for comparisons.

It needs PyTorch, which the package does not need otherwise.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from danet_jax.base.imagenet import MEAN, STD
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.interop.whole_image import scaled_sides
from danet_jax.models.danet import DANet
from danet_jax.models.resnet import EXPANSION, RESNETS, block_dilations


def _conv(inputs: int, outputs: int, size: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (size - 1) // 2
    return nn.Conv2d(
        inputs, outputs, size, stride=stride, padding=padding, dilation=dilation, bias=False
    )


class _Block(nn.Module):
    """A basic or a bottleneck block."""

    def __init__(
        self,
        inputs: int,
        features: int,
        *,
        bottleneck: bool,
        stride: int,
        dilation: int,
        layer_dilation: int,
    ):
        super().__init__()
        outputs = EXPANSION * features if bottleneck else features
        spatial = {"stride": stride, "dilation": dilation}
        if bottleneck:
            self.conv1 = _conv(inputs, features, 1)
            self.conv2 = _conv(features, features, 3, **spatial)
            self.conv3 = _conv(features, outputs, 1)
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv1 = _conv(inputs, features, 3, **spatial)
            self.conv2 = _conv(features, features, 3, dilation=layer_dilation)
        self.bn1 = nn.BatchNorm2d(features)
        self.bn2 = nn.BatchNorm2d(features)
        self.bottleneck = bottleneck
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                _conv(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.bottleneck:
            y = self.bn3(self.conv3(functional.relu(y)))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class _ResNet(nn.Module):
    """Layers 3 and 4 of a dilated ResNet."""

    def __init__(self, model: DANet):
        super().__init__()
        bottleneck, blocks = RESNETS[model.backbone]
        width = model.width
        if model.stem == "plain":
            self.conv1: nn.Module = _conv(3, width, 7, stride=2)
            stem_width = width
        else:
            narrow, stem_width = model.deep_stem_width, 2 * model.deep_stem_width
            self.conv1 = nn.Sequential(
                _conv(3, narrow, 3, stride=2),
                nn.BatchNorm2d(narrow),
                nn.ReLU(),
                _conv(narrow, narrow, 3),
                nn.BatchNorm2d(narrow),
                nn.ReLU(),
                _conv(narrow, stem_width, 3),
            )
        self.bn1 = nn.BatchNorm2d(stem_width)
        geometry = {
            8: ((1, 1), (2, 1), (1, 2), (1, 4)),
            16: ((1, 1), (2, 1), (2, 1), (1, 2)),
        }[model.output_stride]
        inputs = stem_width
        for number, ((stride, dilation), count) in enumerate(
            zip(geometry, blocks, strict=True), start=1
        ):
            features = width * 2 ** (number - 1)
            grid = model.multi_grid if number == 4 else ()
            layer = nn.Sequential()
            for index, block_dilation in enumerate(block_dilations(count, dilation, grid)):
                layer.append(
                    _Block(
                        inputs,
                        features,
                        bottleneck=bottleneck,
                        stride=stride if index == 0 else 1,
                        dilation=block_dilation,
                        layer_dilation=dilation,
                    )
                )
                inputs = EXPANSION * features if bottleneck else features
            setattr(self, f"layer{number}", layer)
        self.outputs = inputs

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        layer3 = self.layer3(self.layer2(self.layer1(x)))
        return layer3, self.layer4(layer3)


class _PositionAttention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.query_conv = nn.Conv2d(channels, max(channels // 8, 1), 1)
        self.key_conv = nn.Conv2d(channels, max(channels // 8, 1), 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            projected.flatten(2)
            for projected in (self.query_conv(x), self.key_conv(x), self.value_conv(x))
        )
        attention = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        return self.gamma * (value @ attention.transpose(1, 2)).reshape(x.shape) + x


class _ChannelAttention(nn.Module):
    def __init__(self, energy: str):
        super().__init__()
        self.energy = energy
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = x.flatten(2)
        energy = features @ features.transpose(1, 2)
        if self.energy == "max_minus":
            energy = energy.amax(dim=-1, keepdim=True) - energy
        return self.gamma * (torch.softmax(energy, dim=-1) @ features).reshape(x.shape) + x


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU())


def _classifier(channels: int, model: DANet) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout2d(model.dropout_rate), nn.Conv2d(channels, model.num_classes, 1)
    )


class _Head(nn.Module):
    """One branch for each attention, a classifier on each and on their sum."""

    def __init__(self, inputs: int, model: DANet):
        super().__init__()
        channels = inputs // 4
        self.attention: Sequence[str] = model.attention
        if "position" in model.attention:
            self.conv5a = _block(inputs, channels)
            self.sa = _PositionAttention(channels)
            self.conv51 = _block(channels, channels)
        if "channel" in model.attention:
            self.conv5c = _block(inputs, channels)
            self.sc = _ChannelAttention(model.channel_energy)
            self.conv52 = _block(channels, channels)
        if len(model.attention) == 2:
            self.conv6 = _classifier(channels, model)
            self.conv7 = _classifier(channels, model)
        if model.attention:
            self.conv8 = _classifier(channels, model)
        else:
            self.conv5 = nn.Sequential(*_block(inputs, channels), *_classifier(channels, model))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if not self.attention:
            return {"fused": self.conv5(x)}
        branches = {}
        if "position" in self.attention:
            branches["position"] = self.conv51(self.sa(self.conv5a(x)))
        if "channel" in self.attention:
            branches["channel"] = self.conv52(self.sc(self.conv5c(x)))
        if len(branches) == 1:
            return {"fused": self.conv8(*branches.values())}
        position, channel = branches["position"], branches["channel"]
        return {
            "fused": self.conv8(position + channel),
            "position": self.conv6(position),
            "channel": self.conv7(channel),
        }


class _AuxiliaryHead(nn.Module):
    def __init__(self, inputs: int, model: DANet):
        super().__init__()
        channels = inputs // 4
        self.conv5 = nn.Sequential(*_block(inputs, channels), *_classifier(channels, model))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv5(x)


class TorchDANet(nn.Module):
    """Logits by name at feature stride of a normalised image [b, 3, h, w], NCHW.

    `load_state_dict(to_torch(variables, model))` makes it the same network as `model`.
    """

    def __init__(self, model: DANet):
        super().__init__()
        self.pretrained = _ResNet(model)
        self.head = _Head(self.pretrained.outputs, model)
        if model.auxiliary_head:
            self.auxlayer = _AuxiliaryHead(self.pretrained.outputs // 2, model)
        self.align_corners = model.align_corners

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        layer3, layer4 = self.pretrained(image)
        logits = self.head(layer4)
        if self.training and hasattr(self, "auxlayer"):
            logits["auxiliary"] = self.auxlayer(layer3)
        return logits


class TorchPredictor(nn.Module):
    """Labels [b, h, w] uint8 and scores [b, h, w, s] of uint8 RGB images [b, h, w, 3]."""

    def __init__(self, network: TorchDANet, settings: InferenceSettings | None = None):
        super().__init__()
        self.network = network
        self.settings = settings or InferenceSettings()
        self.register_buffer("mean", 255 * torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD), persistent=False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, height, width, _ = image.shape
        settings = self.settings
        pixels = image.to(torch.float32).permute(0, 3, 1, 2)
        if settings.is_single_pass:
            scores = torch.softmax(self._logits(pixels, (height, width)), dim=1)
        else:
            scores = torch.stack([self._at_scale(pixels, scale) for scale in settings.scales]).mean(
                0
            )
        scores = scores.permute(0, 2, 3, 1)
        return scores.argmax(-1).to(torch.uint8), scores

    def _at_scale(self, pixels: torch.Tensor, scale: float) -> torch.Tensor:
        height, width = pixels.shape[2:]
        size = (height, width)
        if self.settings.size_field or scale != 1:
            size = scaled_sides(
                self.settings, scale, height, width, smaller=torch.sym_min, larger=torch.sym_max
            )
        scaled = self._resized(pixels, size)
        views = [self._logits(scaled, size)]
        if self.settings.flip:
            views.append(self._logits(scaled.flip(3), size).flip(3))
        scores = torch.softmax(torch.stack(views), dim=2).mean(0)
        return self._resized(scores, (height, width))

    def _logits(self, pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        normalized = (pixels - self.mean[:, None, None]) / self.std[:, None, None]
        return self._resized(self.network(normalized)["fused"], size)

    def _resized(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        align = self.network.align_corners
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=align)
