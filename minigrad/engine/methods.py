"""The methods and operators of Tensor, which ops attach when they are declared; the stub beside lists them."""


class Methods:
    """Empty until ops are declared."""

    __slots__ = ()
