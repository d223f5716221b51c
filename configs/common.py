"""Every field of an experiment, once, with its meaning and the value of the original (v0.5.0).

A field that is None is left open: where neither an experiment's file nor the command line sets it,
it follows from other fields, by the rule that stands beside it.
"""

import ml_collections
from ml_collections.config_dict import placeholder

MULTI_GRID = (4, 8, 16)
# The fields that may be left open, each with a value that it may take.
OPEN = {
    "model.num_classes": 19,
    "model.multi_grid": MULTI_GRID,
    "train.eval_every": 1,
    "train.checkpoint_every": 1,
    "eval.base_size": 0,
    "eval.short_side": 0,
    "mesh.distributed": False,
}
# MULTI_GRID needs a feature map of at least so many features along each side of a crop: twice its
# widest dilation.
SMALLEST_MAP = 32


def get_config() -> ml_collections.ConfigDict:
    """Returns all fields; an experiment's file changes what differs."""
    config = ml_collections.ConfigDict()

    # Seeds initial parameters, the order of examples, augmentation and dropout.
    config.seed = 0

    config.model = ml_collections.ConfigDict()
    # One of resnet10, resnet18, resnet34, resnet50, resnet101 and resnet152.
    config.model.backbone = "resnet101"
    # Channels of the stem. The published networks have 64; fewer make a small, fast network.
    config.model.width = 64
    # 1 to 255. configs/folder.py leaves it open: it is then the number of the data set's classes.
    config.model.num_classes = 19
    # Input pixels per feature: 8 or 16.
    config.model.output_stride = 8
    # Dilations of the blocks of layer 4: (4, 8, 16) in the published models, () for plain blocks.
    # Left open, it is (4, 8, 16) if the feature map of a crop is at least 32 features high and
    # wide, else (). On a map of 16 or less the outer weights of a dilation of 16 see only padding,
    # so they are not trained, and they spoil the prediction of larger images.
    config.model.multi_grid = placeholder(tuple)
    # "plain": one 7x7 convolution; "deep": three 3x3 convolutions.
    config.model.stem = "plain"
    # Channels of the deep stem's first two convolutions: 32 in mmsegmentation's v1c, 64 in
    # ResNet-s.
    config.model.deep_stem_width = 32
    # ("position", "channel") is DANet, () the dilated FCN of the paper's ablation.
    config.model.attention = ("position", "channel")
    # "full" holds all energies of an image, "chunked" some rows at a time; "auto" chunks large
    # images.
    config.model.position_attention = "auto"
    # MiB that the energies of one image (4 bytes for each pair of features) may take before "auto"
    # chunks them; a chunk takes at most an eighth of it. 0 is the default of the platform: 128 on
    # CPU, 512 elsewhere.
    config.model.energy_memory = 0
    # "max_minus" is the softmax of (row maximum - energy), as in the code behind the published
    # numbers; "plain" is the softmax of the energy, as in the text of the paper.
    config.model.channel_energy = "max_minus"
    # The rate at which whole channels are dropped before each classifier.
    config.model.dropout_rate = 0.1
    # Logits are resized to labels bilinearly with (True) or without (False) aligned corners.
    config.model.align_corners = True
    # Adds an FCN head on layer 3, trained with loss.auxiliary_weight.
    config.model.auxiliary_head = False
    # A file of PyTorch weights that initialises the backbone, "" for random weights: .safetensors
    # or .pth of the ResNets of torchvision, timm or mmsegmentation, or of a whole network.
    config.model.pretrained_backbone = ""
    # What the backward pass recomputes instead of storing it. "none" recomputes nothing; "light",
    # in ResNet-50 and deeper, recomputes norms, ReLUs and wide 1x1 convolutions; "block" recomputes
    # the inside of each residual block, which on GPU and TPU takes a quarter more time for less
    # than half of the memory (on CPU XLA undoes it). "auto" is "light" on CPU, else "none".
    config.model.remat = "auto"
    # How the weight gradients of 3x3 and 7x7 convolutions are computed. "native" is XLA's own,
    # "einsum" one product for each tap, "space_to_batch" XLA's on a map split by the dilation;
    # "auto" is what is fastest on the platform, which on CPU can be Winograd's algorithm.
    # Convolutions with a stride always take "native" on accelerators.
    config.model.conv_weight_gradient = "auto"
    # The type of activations, "float32" or "bfloat16". Parameters, softmax, statistics and loss are
    # float32.
    config.model.dtype = "float32"

    config.data = ml_collections.ConfigDict()
    # Name of a prepared data set: synthetic_scenes, camvid, cityscapes, pascal_voc, ade20k,
    # coco_stuff_10k, coco_stuff_164k, folder or folder/NAME, and pascal_context/VARIANT.
    config.data.name = ""
    # The folder of prepared data sets, relative to the current folder.
    config.data.data_dir = "data"
    # Splits can be cut and added: "train[:100]", "train+train_extra".
    config.data.train_split = "train"
    config.data.eval_split = "val"
    # (height, width) of a training example.
    config.data.crop_size = (768, 768)
    # The short side of an image is drawn as an integer from scale_range * base_size; (1, 1) keeps
    # base_size.
    config.data.base_size = 1024
    config.data.scale_range = (0.75, 2.0)
    config.data.horizontal_flip = True
    config.data.vertical_flip = False
    config.data.rotate_90 = False
    # The largest relative change of brightness, contrast and saturation; for hue, the largest part
    # of the circle.
    config.data.brightness = 0.0
    config.data.contrast = 0.0
    config.data.saturation = 0.0
    config.data.hue = 0.0
    # Applies PhotoMetricDistortion of mmsegmentation: brightness, contrast, saturation and hue each
    # change in half of the examples.
    config.data.photometric_distortion = False
    # A crop is drawn again, up to 10 times, while one class covers this share of its labelled
    # pixels (mmsegmentation: 0.75); 1 is off.
    config.data.cat_max_ratio = 1.0
    # The temperature of the rare class sampling of DAFormer, which shows images with rare classes
    # more often; DAFormer uses 0.01. 0 is off: each epoch shows every image once.
    config.data.rare_class_sampling = 0.0
    # Worker processes that read and augment images; with 0, threads of the main process do, which
    # is mostly enough.
    config.data.num_workers = 0
    config.data.num_threads = 16

    config.train = ml_collections.ConfigDict()
    # Examples per update, over all devices and processes.
    config.train.batch_size = 8
    # The length of training in epochs, or in steps if that is not 0.
    config.train.epochs = 240
    config.train.steps = 0
    # The batch of an update is computed in so many parts, to save memory. Batch norm sees each part
    # alone, and gradients are the mean over the parts.
    config.train.accumulation_steps = 1
    # Decay of the moving average of the weights, which is used in evaluation and prediction; 0 is
    # off.
    config.train.ema_decay = 0.0
    # The gradient is clipped to this global norm; 0 is off.
    config.train.clip_norm = 0.0
    # These intervals are in steps. An evaluation and a checkpoint also follow the last step.
    config.train.log_every = 50
    # Left open, they are 1/24 and 1/240 of the training, but at least 50 steps, or a quarter of the
    # training if that is less.
    config.train.eval_every = placeholder(int)
    config.train.checkpoint_every = placeholder(int)

    config.optimizer = ml_collections.ConfigDict()
    # The published rate is 0.003 for the three losses at batch 8; scale it with the batch.
    config.optimizer.learning_rate = 0.003
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4
    # The original decays every parameter. With False, scales of batch norm and all biases are left
    # out, so that kernels and the gammas of the attentions are decayed.
    config.optimizer.decay_norm_and_bias = True
    # The learning rate of the head is that of the backbone times this factor.
    config.optimizer.head_factor = 10.0
    # How the rate goes from learning_rate to min_learning_rate. With p from 0 to 1, the share of
    # the steps after the warm-up that are done, and with rate and least for the two:
    # poly:      (rate - least) * (1 - p) ** poly_power + least
    # cosine:    (rate - least) * (1 + cos(pi * p)) / 2 + least
    # constant:  rate
    config.optimizer.schedule = "poly"
    config.optimizer.poly_power = 0.9
    config.optimizer.min_learning_rate = 0.0
    # The share of a training's steps over which the rate rises: step i of w has rate * (i + 1) / w.
    config.optimizer.warmup = 0.0
    # Above 0 this is LARS: the update of each kernel has this times the kernel's norm, before rate
    # and momentum (You et al. 2017 take 0.001, and rates above 1); 0 is SGD.
    config.optimizer.trust_coefficient = 0.0

    config.loss = ml_collections.ConfigDict()
    # The loss of each logit map: cross_entropy, ohem, focal, dice, jaccard or tversky.
    config.loss.name = "cross_entropy"
    # This applies to cross_entropy alone. "labelled" takes the mean over labelled pixels; "all"
    # divides their sum by the number of all pixels, including ignored ones, as in mmsegmentation.
    config.loss.normalization = "labelled"
    # A second loss, one of the same names, added with its weight; "" for none.
    config.loss.added = ""
    config.loss.added_weight = 1.0
    # MiB that one logit map at the size of the label may take on a device before the loss is
    # computed in blocks of rows; 0 is the default of the platform: 64 on CPU, 512 elsewhere.
    config.loss.logit_memory = 0
    config.loss.fused_weight = 1.0
    config.loss.position_weight = 1.0
    config.loss.channel_weight = 1.0
    config.loss.auxiliary_weight = 0.4
    # A weight per class for cross_entropy, ohem and focal; () for equal ones.
    config.loss.class_weights = ()
    # OHEM keeps pixels whose true class has a probability below the threshold, and at least this
    # share of the labelled pixels.
    config.loss.ohem_threshold = 0.7
    config.loss.ohem_min_kept = 0.1
    config.loss.focal_gamma = 2.0
    # Weights of false positives and false negatives in tversky; .5 and .5 is dice.
    config.loss.tversky_alpha = 0.3
    config.loss.tversky_beta = 0.7

    config.eval = ml_collections.ConfigDict()
    # Images per batch on this process.
    config.eval.batch_size = 1
    # "whole" evaluates each image at once, "slide" by windows of crop_size x crop_size.
    config.eval.mode = "whole"
    # 0 is the longer side of data.crop_size.
    config.eval.crop_size = 0
    # The long side of the image at scale 1; 0 keeps the size of the image.
    config.eval.base_size = placeholder(int)
    # The short side of the image at scale 1. It is less if base_size is given and the long side
    # would exceed that: (base_size, short_side) is the scale of Resize in mmsegmentation. 0 leaves
    # the size to base_size. Left open, both follow training, where data.base_size is the short
    # side: short_side is data.base_size, and base_size is four times short_side.
    config.eval.short_side = placeholder(int)
    config.eval.scales = (1.0,)
    # Averages the prediction of the image and of its mirror image.
    config.eval.flip = False
    # "softmax" averages probabilities, and leaves classes that do not occur out of the mean IoU.
    # "original" sums exponentials of logits over overhanging windows, and counts such classes as 0.
    config.eval.merge = "softmax"
    # "single" or "multi" are the settings of the original for Cityscapes, "mmseg-ms" the scales of
    # mmsegmentation. A preset sets those of the fields above that it names.
    config.eval.preset = ""
    # Windows that are computed at a time, a multiple of the devices; 0 is one for each device.
    config.eval.window_batch = 0

    config.mesh = ml_collections.ConfigDict()
    # So many devices share the rows of one image; the others divide the batch. They are devices of
    # one process, or all devices of several, which then load the same images.
    config.mesh.space = 1
    # Joins the other processes of a multi-host job at start-up. Left open, or given as "auto", it
    # does so where Slurm, Open MPI, a slice of Cloud TPUs or JAX_COORDINATOR_ADDRESS tell of some.
    config.mesh.distributed = placeholder(bool)

    # A misspelt field in an experiment is an error, not a new field.
    return config.lock()


def complete(config: ml_collections.ConfigDict) -> None:
    """Sets the open fields, but for those that depend on the data set's length."""
    model, evaluation = config.model, config.eval
    # A side that is no number is refused when the whole config is checked.
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
