"""Every array in its place; whatever has none is named."""

import re

import jax
import numpy as np
import pytest

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.interop import torch_weights
from danet_jax.network import abstract_variables
from tests.interop import state_dicts
from tests.training.tiny import random_variables, tiny_config

MODELS = {
    "plain": {},
    "bottlenecks": {"backbone": "resnet50"},
    "deep stem, auxiliary head": {"stem": "deep", "deep_stem_width": 2, "auxiliary_head": True},
    "position": {"attention": ("position",)},
    "channel": {"attention": ("channel",)},
    "dilated FCN": {"attention": ()},
}


def create_model(**fields):
    # With blocks behind the first ones.
    return danet_jax.create_model(tiny_config(**({"backbone": "resnet18"} | fields)).model)


@pytest.fixture(scope="module")
def model():
    return create_model()


@pytest.fixture
def arrays(model):
    return state_dicts.original(model)


def assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(ours), jax.device_get(theirs))


def refusal(arrays, model, **options):
    with pytest.raises(UserError) as caught:
        torch_weights.convert(arrays, model, **options)
    return str(caught.value)


# --- names and layouts ---------------------------------------------------------------------------


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_there_and_back_is_the_same_bit_for_bit(fields):
    model = create_model(**fields)
    arrays = state_dicts.original(model)
    again = danet_jax.to_torch(danet_jax.from_torch(arrays, model), model)
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].dtype == np.float32
        assert again[name].flags.c_contiguous
        np.testing.assert_array_equal(again[name], array, err_msg=name)

    variables = random_variables(model)
    assert_equal(danet_jax.from_torch(danet_jax.to_torch(variables, model), model), variables)


def test_layouts_by_hand(model, arrays):
    variables = danet_jax.from_torch(arrays, model)
    params, statistics = variables["params"], variables["batch_stats"]
    theirs = arrays["pretrained.layer2.0.downsample.0.weight"]
    ours = params["backbone"]["layer2_0"]["downsample_conv"]["kernel"]
    assert ours.shape == (1, 1, 4, 8)
    assert ours[0, 0, 3, 5] == theirs[5, 3, 0, 0]
    theirs = arrays["head.conv5c.0.weight"]
    assert params["head"]["channel_in"]["conv"]["kernel"][2, 1, 7, 6] == theirs[6, 7, 2, 1]
    assert params["head"]["position_attention"]["gamma"] == arrays["head.sa.gamma"][0]
    np.testing.assert_array_equal(
        params["head"]["position_attention"]["value"]["bias"], arrays["head.sa.value_conv.bias"]
    )
    np.testing.assert_array_equal(
        statistics["head"]["channel_out"]["bn"]["var"], arrays["head.conv52.1.running_var"]
    )
    np.testing.assert_array_equal(
        params["head"]["fused_classifier"]["conv"]["bias"], arrays["head.conv8.1.bias"]
    )


def test_the_names_are_the_published_ones():
    names = set(state_dicts.original(create_model(backbone="resnet50")))
    assert {
        "pretrained.conv1.weight",
        "pretrained.bn1.running_mean",
        "pretrained.layer3.5.conv3.weight",
        "pretrained.layer4.2.bn2.running_var",
        "head.conv5a.0.weight",
        "head.sa.query_conv.bias",
        "head.sc.gamma",
        "head.conv52.1.weight",
        "head.conv6.1.weight",
        "head.conv7.1.bias",
    } <= names
    deep = create_model(stem="deep", deep_stem_width=2, auxiliary_head=True)
    assert {
        "pretrained.conv1.0.weight",
        "pretrained.conv1.1.bias",
        "pretrained.conv1.3.weight",
        "pretrained.conv1.6.weight",
        "pretrained.bn1.weight",
        "auxlayer.conv5.0.weight",
        "auxlayer.conv5.4.bias",
    } <= set(state_dicts.original(deep))
    assert {
        "backbone.stem.0.weight",
        "backbone.stem.7.running_var",
        "backbone.layer1.0.bn1.weight",
        "decode_head.pam_in_conv.conv.weight",
        "decode_head.pam.key_project.bias",
        "decode_head.cam.gamma.scale",
        "decode_head.cam_conv_seg.weight",
        "decode_head.conv_seg.bias",
        "auxiliary_head.convs.0.bn.bias",
        "auxiliary_head.conv_seg.weight",
    } <= set(state_dicts.mmsegmentation(deep))


@pytest.mark.parametrize("stem", ["plain", "deep"])
def test_mmsegmentation_names_lead_to_the_same_places(stem):
    model = create_model(stem=stem, deep_stem_width=2, auxiliary_head=True)
    theirs = state_dicts.mmsegmentation(model)
    # Its gammas have no axis.
    theirs = {n: a[0] if n.endswith("gamma.scale") else a for n, a in theirs.items()}
    arrays = danet_jax.to_torch(danet_jax.from_torch(theirs, model), model)
    for ours, name in {
        "head.conv51.0.weight": "decode_head.pam_out_conv.conv.weight",
        "head.conv5c.1.running_mean": "decode_head.cam_in_conv.bn.running_mean",
        "head.sa.query_conv.weight": "decode_head.pam.query_project.weight",
        "head.sa.key_conv.weight": "decode_head.pam.key_project.weight",
        "head.conv6.1.weight": "decode_head.pam_conv_seg.weight",
        "head.conv7.1.weight": "decode_head.cam_conv_seg.weight",
        "head.conv8.1.weight": "decode_head.conv_seg.weight",
        "auxlayer.conv5.0.weight": "auxiliary_head.convs.0.conv.weight",
        "auxlayer.conv5.4.bias": "auxiliary_head.conv_seg.bias",
    }.items():
        np.testing.assert_array_equal(arrays[ours], theirs[name], err_msg=name)
    assert arrays["head.sa.gamma"] == theirs["decode_head.pam.gamma.scale"]


def test_prefixes_and_counters_do_not_matter(model, arrays):
    wrapped = {f"module.{name}": array for name, array in arrays.items()}
    wrapped |= {"module.pretrained.bn1.num_batches_tracked": np.array(3)}
    wrapped |= {"module.pretrained.fc.weight": np.zeros((1000, 32), np.float32)}
    assert_equal(danet_jax.from_torch(wrapped, model), danet_jax.from_torch(arrays, model))


def test_half_precision_becomes_float32(model, arrays):
    halves = {name: array.astype(np.float16) for name, array in arrays.items()}
    variables = danet_jax.from_torch(halves, model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(
        variables["params"]["backbone"]["stem_bn1"]["scale"],
        halves["pretrained.bn1.weight"].astype(np.float32),
    )


# --- a backbone alone ----------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"stem": "deep", "deep_stem_width": 2}])
def test_a_resnet_gives_the_backbone(fields):
    model = create_model(**fields)
    arrays = state_dicts.torchvision(model)
    weights = torch_weights.backbone_from_torch(arrays, model)
    whole = danet_jax.from_torch(arrays, model)
    assert_equal(whole, weights.variables)
    assert whole["params"].keys() == whole["batch_stats"].keys() == {"backbone"}
    assert weights.count == len(arrays) - 3
    np.testing.assert_array_equal(
        whole["batch_stats"]["backbone"]["layer4_1"]["bn2"]["mean"],
        arrays["layer4.1.bn2.running_mean"],
    )
    shapes = abstract_variables(model)
    backbone = {collection: {"backbone": shapes[collection]["backbone"]} for collection in shapes}
    assert jax.tree.structure(whole) == jax.tree.structure(backbone)


def test_of_a_whole_network_the_backbone_is_taken(model, arrays):
    weights = torch_weights.backbone_from_torch(arrays, create_model(num_classes=9))
    whole = danet_jax.from_torch(arrays, model)
    assert_equal(weights.variables["params"]["backbone"], whole["params"]["backbone"])


def test_a_backbone_is_no_network(model):
    message = refusal(state_dicts.torchvision(model), model, initial=lambda: None)
    assert "holds a backbone alone" in message
    assert "--config.model.pretrained_backbone=FILE" in message


# --- what does not fit ---------------------------------------------------------------------------


def test_all_problems_are_in_one_error(model, arrays):
    arrays["pretrained.layer3.1.conv2.weight"] = arrays["pretrained.layer3.1.conv2.weight"].T
    arrays["pretrained.bn1.weight"] = arrays["pretrained.bn1.weight"][:2]
    del arrays["pretrained.layer1.0.bn1.bias"], arrays["head.sc.gamma"]
    arrays["head.conv9.weight"] = np.zeros(3, np.float32)
    arrays["head.conv51.1.running_mean"][1] = np.nan
    arrays["head.conv52.1.running_var"][2] = -1
    arrays["head.conv6.1.bias"] = arrays["head.conv6.1.bias"].astype(np.int32)
    message = refusal(arrays, model)
    lines = [line.strip() for line in message.splitlines()[1:]]
    assert sorted(lines) == [
        "a negative variance: head.conv52.1.running_var",
        "another shape: pretrained.bn1.weight is (2,), the model's is (4,)",
        "another shape: pretrained.layer3.1.conv2.weight is (3, 3, 16, 16), the model's is "
        "(16, 16, 3, 3)",
        "left over: head.conv9.weight",
        "missing: head.sc.gamma (1,)",
        "missing: pretrained.layer1.0.bn1.bias (4,)",
        "no numbers: head.conv6.1.bias is ndarray, int32",
        "not finite: head.conv51.1.running_mean",
    ]
    first = message.splitlines()[0]
    assert first == "the checkpoint (the original's names) does not fit the model, in 8 arrays."


@pytest.mark.parametrize(
    ("theirs", "hint"),
    [
        ({"backbone": "resnet34"}, "config.model.backbone=resnet34"),
        ({"backbone": "resnet50"}, "config.model.backbone=resnet50"),
        ({"stem": "deep", "deep_stem_width": 2}, "config.model.stem=deep"),
        ({"auxiliary_head": True}, "config.model.auxiliary_head=True"),
        ({"attention": ("channel",)}, "config.model.attention=('channel',)"),
        ({"width": 8}, "config.model.width=8"),
    ],
)
def test_the_config_that_fits_is_named(model, theirs, hint):
    message = refusal(state_dicts.mmsegmentation(create_model(**theirs)), model)
    assert message.splitlines()[0].endswith(f"Its names are those of a model with {hint}.")


def test_shortcuts_that_average_are_named(model, arrays):
    for name in [n for n in arrays if "layer2.0.downsample" in n]:
        number = int(re.search(r"downsample\.(\d)", name).group(1))
        arrays[name.replace(f"downsample.{number}", f"downsample.{number + 1}")] = arrays.pop(name)
    assert "average before they convolve" in refusal(arrays, model)


def test_foreign_names_are_shown(model):
    arrays = {f"encoder.{n}.kernel": np.zeros(3, np.float32) for n in range(9)}
    message = refusal(arrays, model)
    assert "no array under a name of the original DANet" in message
    assert message.endswith(
        "encoder.0.kernel, encoder.1.kernel, encoder.2.kernel, encoder.3.kernel, …"
    )
    assert refusal({}, model).endswith("Its names are: none")


def test_variables_of_another_model_have_no_state_dict(model):
    variables = random_variables(create_model(num_classes=5))
    with pytest.raises(UserError, match=r"not the model's: .*head\.fused_classifier\.conv\.bias"):
        danet_jax.to_torch(variables, model)


def test_one_missing_array_is_no_other_model():
    model = create_model(stem="deep", deep_stem_width=2, backbone="resnet50")
    arrays = state_dicts.original(model)
    del arrays["pretrained.conv1.0.weight"], arrays["pretrained.layer1.0.conv3.weight"]
    assert "By its names" not in refusal(arrays, model)


def test_a_backbone_says_nothing_of_the_head():
    model = create_model(auxiliary_head=True)
    arrays = state_dicts.mmsegmentation(model)
    del arrays["backbone.bn1.bias"]
    with pytest.raises(UserError) as caught:
        torch_weights.backbone_from_torch(arrays, model)
    assert "By its names" not in str(caught.value)


def test_a_name_twice_is_refused(model, arrays):
    twice = arrays | {"module.head.sc.gamma": np.ones(1, np.float32)}
    message = refusal(twice, model)
    assert "head.sc.gamma both with and without" in message
    assert '"module."' in message


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"_orig_mod.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"model.{name}",
        lambda name: name.replace("pretrained.", "pretrained._orig_mod."),
        lambda name: name.replace("head.", "head.module."),
    ],
)
def test_what_wraps_a_network_is_taken_off(rename, model, arrays):
    wrapped = {rename(name): array for name, array in arrays.items()}
    wrapped |= {"n_averaged": np.array(7)}
    assert_equal(danet_jax.from_torch(wrapped, model), danet_jax.from_torch(arrays, model))


def test_an_array_is_not_read_before_its_shape_is_the_models(model, arrays):
    # 4 TiB, as one number that is repeated.
    arrays["pretrained.bn1.bias"] = np.broadcast_to(np.float32(1), (1 << 40,))
    message = refusal(arrays, model)
    assert "another shape: pretrained.bn1.bias is (1099511627776,)" in message


def test_what_float32_cannot_hold_is_not_finite(model, arrays):
    arrays["pretrained.bn1.running_var"] = np.full(4, 1e39)
    assert "not finite: pretrained.bn1.running_var" in refusal(arrays, model)


@pytest.mark.parametrize("without", ["params", "batch_stats"])
def test_half_of_the_variables_have_no_state_dict(model, without):
    variables = random_variables(model)
    del variables[without]
    with pytest.raises(UserError, match="not the model's"):
        danet_jax.to_torch(variables, model)


# --- other classes, and parts --------------------------------------------------------------------


def test_classifiers_of_other_classes_start_anew(arrays):
    model = create_model(num_classes=5)
    assert "another shape: head.conv8.1.weight is (3, 8, 1, 1)" in refusal(arrays, model)
    initial = random_variables(model, seed=1)
    weights = torch_weights.convert(arrays, model, initial=lambda: initial)
    assert weights.reinitialized == tuple(
        f"head.{name}_classifier.conv.{leaf}"
        for name in ("channel", "fused", "position")
        for leaf in ("bias", "kernel")
    )
    assert weights.skipped == ()
    assert weights.count == len(arrays) - 6
    head = weights.variables["params"]["head"]
    assert_equal(head["fused_classifier"], initial["params"]["head"]["fused_classifier"])
    np.testing.assert_array_equal(
        head["position_out"]["bn"]["scale"], arrays["head.conv51.1.weight"]
    )


def test_other_features_before_a_classifier_are_no_other_classes(model, arrays):
    arrays["head.conv8.1.weight"] = np.zeros((5, 7, 1, 1), np.float32)
    assert "another shape: head.conv8.1.weight" in refusal(arrays, model, initial=lambda: None)


def test_partial_weights_name_what_was_skipped(model, arrays):
    del arrays["head.sc.gamma"]
    arrays["extra"] = np.zeros(1, np.float32)
    initial = random_variables(model, seed=1)
    weights = torch_weights.convert(arrays, model, initial=lambda: initial, allow_partial=True)
    assert weights.skipped == ("missing: head.sc.gamma (1,)", "left over: extra")
    gamma = weights.variables["params"]["head"]["channel_attention"]["gamma"]
    assert gamma == initial["params"]["head"]["channel_attention"]["gamma"]
    assert jax.tree.structure(weights.variables) == jax.tree.structure(initial)
