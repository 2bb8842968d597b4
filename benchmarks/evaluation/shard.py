"""One process's part of the prompts. Loads no torch."""


class Shard:
    """Every `count`-th prompt from the `number`-th on: one process's part of the work."""

    def __init__(self, number: int, count: int):
        if not 1 <= number <= count:
            raise ValueError(f"--shard {number}/{count}: the first number counts from 1 to the second")
        self.number, self.count = number, count

    @classmethod
    def parse(cls, text: str) -> "Shard":
        number, slash, count = text.partition("/")
        if not slash or not number.isdecimal() or not count.isdecimal():
            raise ValueError(f"--shard {text!r} should be i/n, e.g. 1/4")
        return cls(int(number), int(count))

    def of(self, items: list) -> list:
        return items[self.number - 1 :: self.count]
