"""Prints the task set that an experiment names: a path, or nothing where the run makes its own.

For `need_task_set` of `lib.sh`, with the words that `codegym run` is called with. Settings that are wrong
print nothing and end with another code than 0: the run says what is wrong with them.
"""

import argparse

from codegym_jax.config import apply_overrides, apply_presets, load


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    for option in ("--preset", "--set"):
        parser.add_argument(option, nargs="+", action="extend", default=[])
    options, _ = parser.parse_known_args()
    config = apply_overrides(apply_presets(load(options.config), options.preset), options.set)
    print(config.data.task_set)


if __name__ == "__main__":
    main()
