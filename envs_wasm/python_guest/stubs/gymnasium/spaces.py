"""The space classes, as plain records of their arguments."""


class Space:
    def __init__(self, *args, **kwargs):
        self.args = args
        self.kwargs = kwargs


class Box(Space):
    pass


class Dict(Space):
    pass


class Discrete(Space):
    pass


class MultiBinary(Space):
    pass


class MultiDiscrete(Space):
    pass


class Sequence(Space):
    pass


class Text(Space):
    pass


class Tuple(Space):
    pass
