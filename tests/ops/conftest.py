from tests.training.compilation import light_compilation

__all__ = ["light_compilation"]
