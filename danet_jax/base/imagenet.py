"""ImageNet's statistics of RGB in [0, 1], as torchvision has them."""

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
