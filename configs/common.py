"""Every field of an experiment, once, with its meaning and the value of the original (v0.5.0).

A field that is None is left open: where neither an experiment's file nor the command line sets it,
it follows from other fields, by the rule that stands beside it.
"""

import ml_collections
from ml_collections.config_dict import placeholder

MULTI_GRID = (4, 8, 16)
# The fields that are left open, each with a value that it may take.
OPEN = {
    "model.multi_grid": MULTI_GRID,
    "train.eval_every": 1,
    "train.checkpoint_every": 1,
    "eval.base_size": 0,
    "eval.short_side": 0,
}
# Features that a crop's map has along each side where MULTI_GRID is used: twice the widest.
SMALLEST_MAP = 32


def get_config() -> ml_collections.ConfigDict:
    """Returns all fields; an experiment's file changes what differs."""
    config = ml_collections.ConfigDict()

    # Seeds initial parameters, the order of examples, augmentation and dropout.
    config.seed = 0

    config.model = ml_collections.ConfigDict()
    # resnet10, resnet18, resnet34, resnet50, resnet101 or resnet152.
    config.model.backbone = "resnet101"
    # Channels of the stem; 64 is the published networks' width, less makes a small, fast one.
    config.model.width = 64
    config.model.num_classes = 19
    # Input pixels per feature: 8 or 16.
    config.model.output_stride = 8
    # Dilations of layer 4's blocks, (4, 8, 16) in the published models; () for the plain ones. Left
    # open, (4, 8, 16) where the feature map of a crop is at least 32 features high and wide, else
    # (): on a map of 16 or less the outer weights of a dilation of 16 see nothing but padding, so
    # they stay as they began, and they spoil what the network says of a larger image.
    config.model.multi_grid = placeholder(tuple)
    # "plain": one 7x7 convolution; "deep": three 3x3 convolutions.
    config.model.stem = "plain"
    # Channels of the deep stem's first two convolutions: 32 in mmsegmentation's v1c, 64 in
    # ResNet-s.
    config.model.deep_stem_width = 32
    # ("position", "channel") is DANet, () the dilated FCN of the paper's ablation.
    config.model.attention = ("position", "channel")
    # "full" holds all energies of an image, "chunked" some rows at a time; "auto" chunks the large.
    config.model.position_attention = "auto"
    # MiB that one image's energies (4 bytes for each pair of features) may take before "auto"
    # chunks them, and eight times what a chunk takes; 0 for the platform's default: 128 on CPU,
    # 512 elsewhere.
    config.model.energy_memory = 0
    # "max_minus": softmax of (row maximum - energy), as in the code behind the published numbers;
    # "plain": softmax of the energy, as in the paper's text.
    config.model.channel_energy = "max_minus"
    # Whole channels are dropped before each classifier.
    config.model.dropout_rate = 0.1
    # How logits and labels meet: bilinear with (True) or without (False) aligned corners.
    config.model.align_corners = True
    # FCN head on layer 3, trained with loss.auxiliary_weight.
    config.model.auxiliary_head = False
    # File of PyTorch weights whose backbone training starts from, "" for random ones: .safetensors
    # or .pth of torchvision's, timm's or mmsegmentation's ResNets, or of a whole network.
    config.model.pretrained_backbone = ""
    # What the gradient computes anew in place of keeping it: "none"; "light", in ResNet-50 and
    # deeper ones the norms, ReLUs and wide 1x1 convolutions; or the inside of each residual
    # "block", on GPU and TPU a quarter more time for less than half of the memory (on CPU XLA
    # undoes it). "auto" is "light" on CPU, else "none".
    config.model.remat = "auto"
    # How 3x3 and 7x7 convolutions get their weight gradient: "native" is XLA's own, "einsum" one
    # product for each tap, "space_to_batch" XLA's of the map cut by the dilation; "auto" is what
    # measures best on the platform, on CPU Winograd's algorithm among them. Where there is a
    # stride, accelerators always take "native".
    config.model.conv_weight_gradient = "auto"
    # "float32" or "bfloat16" for activations; parameters, softmax, statistics and loss are
    # float32.
    config.model.dtype = "float32"

    config.data = ml_collections.ConfigDict()
    # Name of a prepared data set: synthetic_scenes, camvid, cityscapes, pascal_voc, ade20k,
    # coco_stuff_10k, coco_stuff_164k, folder or folder/NAME, and pascal_context/VARIANT.
    config.data.name = ""
    # Where prepared data sets lie, relative to the current folder.
    config.data.data_dir = "data"
    # Also a part or a sum of splits: "train[:100]", "train+train_extra".
    config.data.train_split = "train"
    config.data.eval_split = "val"
    # (height, width) of a training example.
    config.data.crop_size = (768, 768)
    # The short side is drawn as an integer from scale_range * base_size; (1, 1) keeps base_size.
    config.data.base_size = 1024
    config.data.scale_range = (0.75, 2.0)
    config.data.horizontal_flip = True
    config.data.vertical_flip = False
    config.data.rotate_90 = False
    # Largest relative change of brightness, contrast and saturation; of hue, as a part of the
    # circle.
    config.data.brightness = 0.0
    config.data.contrast = 0.0
    config.data.saturation = 0.0
    config.data.hue = 0.0
    # mmsegmentation's PhotoMetricDistortion: brightness, contrast, saturation and hue, each of half
    # of the examples.
    config.data.photometric_distortion = False
    # A crop is drawn anew, up to 10 times, while one class covers this share of its labelled pixels
    # (mmsegmentation: 0.75); 1 is off.
    config.data.cat_max_ratio = 1.0
    # Images that hold rare classes are shown more often: the temperature of DAFormer's rare class
    # sampling, 0.01 there; 0 is off, and each epoch shows every image once.
    config.data.rare_class_sampling = 0.0
    # Worker processes that read and augment; 0 uses threads of the main one, mostly enough.
    config.data.num_workers = 0
    config.data.num_threads = 16

    config.train = ml_collections.ConfigDict()
    # Examples per update, over all devices and processes.
    config.train.batch_size = 8
    # Length of training: epochs, or steps where that is not 0.
    config.train.epochs = 240
    config.train.steps = 0
    # An update's batch is computed in this many parts, for small memories. Batch norm sees each
    # part alone, and gradients are the mean over the parts.
    config.train.accumulation_steps = 1
    # Decay of the moving average of weights that is evaluated and predicted with; 0 is off.
    config.train.ema_decay = 0.0
    # Largest global norm of a gradient; 0 is off.
    config.train.clip_norm = 0.0
    # In steps; an evaluation and a checkpoint also follow the last one.
    config.train.log_every = 50
    # Left open, a 24th of the training's steps, and a 240th; in short trainings at least 50, or
    # else a quarter.
    config.train.eval_every = placeholder(int)
    config.train.checkpoint_every = placeholder(int)

    config.optimizer = ml_collections.ConfigDict()
    # The published .003 for the three losses at batch 8; scale it with the batch.
    config.optimizer.learning_rate = 0.003
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    # The original decays every parameter; False leaves out batch norm's scales and all biases, so
    # that kernels and the attentions' gammas are decayed.
    config.optimizer.decay_norm_and_bias = True
    # The head learns faster than the backbone by this factor.
    config.optimizer.head_factor = 10.0
    # The rate falls from learning_rate to min_learning_rate by (1 - step / steps) ** poly_power.
    config.optimizer.poly_power = 0.9
    config.optimizer.min_learning_rate = 0.0

    config.loss = ml_collections.ConfigDict()
    # What each logit map is trained with: cross_entropy, ohem, focal, dice, jaccard or tversky.
    config.loss.name = "cross_entropy"
    # Of cross_entropy alone. "labelled": the mean over labelled pixels; "all": their sum divided by
    # the number of all pixels, ignored ones included, as in mmsegmentation.
    config.loss.normalization = "labelled"
    # A further loss of these names, added with its weight; "" for none.
    config.loss.added = ""
    config.loss.added_weight = 1.0
    # MiB that one logit map may take on a device at the label's size before the loss is computed by
    # blocks of rows; 0 for the platform's default: 64 on CPU, 512 elsewhere.
    config.loss.logit_memory = 0
    config.loss.fused_weight = 1.0
    config.loss.position_weight = 1.0
    config.loss.channel_weight = 1.0
    config.loss.auxiliary_weight = 0.4
    # A weight per class for cross_entropy, ohem and focal; () for equal ones.
    config.loss.class_weights = ()
    # OHEM keeps pixels whose true class has less than this probability, and at least this share.
    config.loss.ohem_threshold = 0.7
    config.loss.ohem_min_kept = 0.1
    config.loss.focal_gamma = 2.0
    # Weights of false positives and false negatives in tversky; .5 and .5 is dice.
    config.loss.tversky_alpha = 0.3
    config.loss.tversky_beta = 0.7

    config.eval = ml_collections.ConfigDict()
    # Images per batch on this process.
    config.eval.batch_size = 1
    # "whole" image at once, or "slide": windows of crop_size x crop_size over it.
    config.eval.mode = "whole"
    # 0 for the longer side of data.crop_size.
    config.eval.crop_size = 0
    # Long side of the image at scale 1; 0 for the image's own.
    config.eval.base_size = placeholder(int)
    # Short side of the image at scale 1, less where base_size is given and the long side would
    # exceed it: (base_size, short_side) is the scale of mmsegmentation's Resize. 0 leaves the size
    # to base_size. Left open, both follow training, where data.base_size is the short side:
    # short_side is data.base_size, and base_size four times short_side.
    config.eval.short_side = placeholder(int)
    config.eval.scales = (1.0,)
    # Look at the mirrored image, too.
    config.eval.flip = False
    # "softmax" averages probabilities and leaves classes that do not occur out of the mean IoU.
    # "original" sums exponentials of logits over overhanging windows and counts such classes as 0.
    config.eval.merge = "softmax"
    # "single" or "multi": the original's for Cityscapes; "mmseg-ms": mmsegmentation's scales. Sets
    # what it names of the fields above.
    config.eval.preset = ""
    # Windows at a time, a multiple of the devices; 0 for one a device.
    config.eval.window_batch = 0

    config.mesh = ml_collections.ConfigDict()
    # Devices that share one image's rows; the others divide the batch.
    config.mesh.space = 1
    # Join the other processes of a multi-host job (TPU pod, Slurm, MPI) at start-up.
    config.mesh.distributed = False

    # A misspelt field in an experiment is an error, not a new field.
    return config.lock()


def complete(config: ml_collections.ConfigDict) -> None:
    """Sets the open fields, but for those that depend on the data set's length."""
    model, evaluation = config.model, config.eval
    # What is no number is refused where the whole config is checked.
    crop = [side for side in config.data.crop_size if isinstance(side, int | float)]
    if model.multi_grid is None:
        fits = min(crop, default=0) >= SMALLEST_MAP * model.output_stride
        model.multi_grid = MULTI_GRID if fits else ()
    if evaluation.short_side is None:
        evaluation.short_side = config.data.base_size if evaluation.base_size is None else 0
    if evaluation.base_size is None:
        evaluation.base_size = 4 * evaluation.short_side
    if evaluation.mode == "slide" and not evaluation.crop_size:
        evaluation.crop_size = max(crop, default=0)


def complete_intervals(config: ml_collections.ConfigDict, total_steps: int) -> None:
    """Sets the open fields among the intervals of evaluations and checkpoints."""
    least = min(50, max(total_steps // 4, 1))
    for field, parts in (("eval_every", 24), ("checkpoint_every", 240)):
        if config.train[field] is None:
            config.train[field] = max(total_steps // parts, least)
