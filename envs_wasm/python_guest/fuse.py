"""A componentize-py component without imports, turned into one core module without imports.

Such a component is a bundle of core modules (CPython, libc, adapters, stubs) whose imports and exports
are wired to one another by its instance and alias sections. Every import is resolved here to the
(instance, export) that it stands for, names are made unique, and binaryen's `wasm-merge` links the modules.
Its `wasm-opt` then makes constants of the hundreds of globals through which position-independent code finds
its data and of the calls through tables that lead to one place.

What an instance of the result can change is its linear memory, the memory's size, and one global, the stack
pointer, which every call leaves as it found it; the host forks an episode by copying these three. The build
stops when there is another mutable global or an instruction that changes a table or a segment.

Only what componentize-py writes is understood: anything else stops with `FuseError`.
Source: the component binary format,
https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md
"""

import pathlib
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_CORE_MODULE, _CORE_INSTANCE, _ALIAS, _CANON = 1, 2, 6, 8  # section ids of a component
_CUSTOM, _IMPORT, _GLOBALS, _EXPORT, _START = 0, 2, 6, 7, 8  # section ids of a core module
_FUNC, _TABLE, _MEMORY, _GLOBAL = 0, 1, 2, 3  # sorts of a core export
_END, _I32_CONST, _I64_CONST, _I32_ADD, _I64_ADD = 0x0B, 0x41, 0x42, 0x6A, 0x7C
_HEADER_BYTES = 8
_STACK_POINTER = "__stack_pointer"
_PASSES = (
    "--simplify-globals-optimizing",
    "--directize",
    "--inlining-optimizing",
    "--duplicate-function-elimination",
    "--remove-unused-module-elements",
)
_STATE_CHANGES = re.compile(
    rb"\((table\.(?:set|grow|fill|copy|init)|elem\.drop|memory\.init|data\.drop|memory\.atomic)"
)

Tool = Callable[[str], list[str]]
"""From the name of a tool of binaryen to the command that runs it."""


class FuseError(Exception):
    """The component holds something that this reader does not know."""


@dataclass
class _Reader:
    data: bytes
    position: int = 0

    def byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def number(self) -> int:
        """An unsigned LEB128 number."""
        result = shift = 0
        while True:
            byte = self.byte()
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    def name(self) -> str:
        length = self.number()
        self.position += length
        return self.data[self.position - length : self.position].decode()


def _number(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        encoded.append(low | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


def _name(text: str) -> bytes:
    return _number(len(text.encode())) + text.encode()


def _sections(binary: bytes) -> Iterator[tuple[int, bytes]]:
    reader = _Reader(binary, _HEADER_BYTES)
    while reader.position < len(binary):
        kind, size = reader.byte(), reader.number()
        yield kind, binary[reader.position : reader.position + size]
        reader.position += size


@dataclass
class _Instance:
    """A core instance: a module with its imports' instances, or a bundle of other instances' exports."""

    module: int | None = None
    arguments: dict[str, int] = field(default_factory=dict)
    bundle: dict[str, tuple[int, str]] = field(default_factory=dict)


@dataclass
class _Component:
    modules: list[bytes] = field(default_factory=list)
    instances: list[_Instance] = field(default_factory=list)
    aliases: dict[int, list[tuple[int, str]]] = field(
        default_factory=lambda: {_FUNC: [], _TABLE: [], _MEMORY: [], _GLOBAL: []}
    )
    lifted: list[tuple[int, str]] = field(default_factory=list)
    """The core functions behind the component's exports."""

    def resolve(self, instance: int, export: str) -> tuple[int, str]:
        """Follows bundles to the module instance that defines an export."""
        while self.instances[instance].module is None:
            instance, export = self.instances[instance].bundle[export]
        return instance, export


def _read_instance(reader: _Reader, component: _Component) -> _Instance:
    if reader.byte() == 0:
        instance = _Instance(module=reader.number())
        for _ in range(reader.number()):
            name = reader.name()
            if reader.byte() != 0x12:
                raise FuseError(f"the argument {name} of a core instance is not an instance")
            instance.arguments[name] = reader.number()
        return instance
    instance = _Instance()
    for _ in range(reader.number()):
        name, sort, index = reader.name(), reader.byte(), reader.number()
        instance.bundle[name] = component.aliases[sort][index]
    return instance


def _read_alias(reader: _Reader, component: _Component) -> None:
    core_sort = reader.byte() if reader.byte() == 0 else None
    target = reader.byte()
    if target == 2:  # an outer alias: types only
        reader.number(), reader.number()
        return
    instance, name = reader.number(), reader.name()
    if target == 1:
        if core_sort is None:
            raise FuseError(f"the core alias {name} has no core sort")
        component.aliases[core_sort].append((instance, name))


def _read_canon(reader: _Reader, component: _Component) -> None:
    count, kind, sub_kind = reader.number(), reader.byte(), reader.byte()
    if (count, kind, sub_kind) != (1, 0, 0):
        raise FuseError("a canonical function other than a lift: was the component built with --stub-wasi?")
    component.lifted.append(component.aliases[_FUNC][reader.number()])


def _parse(binary: bytes) -> _Component:
    component = _Component()
    for kind, section in _sections(binary):
        reader = _Reader(section)
        if kind == _CORE_MODULE:
            component.modules.append(section)
        elif kind == _CORE_INSTANCE:
            for _ in range(reader.number()):
                component.instances.append(_read_instance(reader, component))
        elif kind == _ALIAS:
            for _ in range(reader.number()):
                _read_alias(reader, component)
        elif kind == _CANON:
            _read_canon(reader, component)
    return component


def _skip_limits(reader: _Reader) -> None:
    flags = reader.byte()
    reader.number()
    if flags & 1:
        reader.number()


def _skip_import_type(reader: _Reader) -> None:
    sort = reader.byte()
    if sort == _FUNC:
        reader.number()
    elif sort == _TABLE:
        reader.byte()
        _skip_limits(reader)
    elif sort == _MEMORY:
        _skip_limits(reader)
    elif sort == _GLOBAL:
        reader.byte(), reader.byte()
    else:
        raise FuseError(f"an import of unknown sort {sort}")


def _renamed_imports(section: bytes, rename: Callable[[str, str], tuple[str, str]]) -> bytes:
    reader = _Reader(section)
    count = reader.number()
    out = [_number(count)]
    for _ in range(count):
        module, name = rename(reader.name(), reader.name())
        start = reader.position
        _skip_import_type(reader)
        out += [_name(module), _name(name), section[start : reader.position]]
    return b"".join(out)


def _renamed_exports(section: bytes, rename: Callable[[str], str | None]) -> bytes:
    reader = _Reader(section)
    kept = []
    for _ in range(reader.number()):
        name, sort, index = rename(reader.name()), reader.byte(), reader.number()
        if name is not None:
            kept.append(_name(name) + bytes([sort]) + _number(index))
    return _number(len(kept)) + b"".join(kept)


def _rewrite(
    module: bytes, imports: Callable[[str, str], tuple[str, str]], exports: Callable[[str], str | None]
) -> bytes:
    """The module with its imports and exports renamed (an export named None is dropped), debug data gone."""
    out = [module[:_HEADER_BYTES]]
    for kind, section in _sections(module):
        if kind == _CUSTOM:
            continue
        if kind == _IMPORT:
            section = _renamed_imports(section, imports)
        elif kind == _EXPORT:
            section = _renamed_exports(section, exports)
        out += [bytes([kind]), _number(len(section)), section]
    return b"".join(out)


def _label(instance: int) -> str:
    return f"i{instance}"


def _unique(instance: int, export: str) -> str:
    return f"{_label(instance)}|{export}"


def _write_modules(component: _Component, folder: pathlib.Path) -> list[str]:
    """Writes one renamed module per instance; returns `wasm-merge`'s (path, name) arguments, flattened."""
    arguments = []
    for index, instance in enumerate(component.instances):
        if instance.module is None:
            continue

        def import_name(module: str, name: str, instance: _Instance = instance) -> tuple[str, str]:
            source, export = component.resolve(instance.arguments[module], name)
            return _label(source), _unique(source, export)

        path = folder / f"{_label(index)}.wasm"
        module = component.modules[instance.module]
        path.write_bytes(_rewrite(module, import_name, lambda name, index=index: _unique(index, name)))
        arguments += [str(path), _label(index)]
    return arguments


def _exports(module: bytes) -> set[str]:
    names = set()
    for kind, section in _sections(module):
        if kind == _EXPORT:
            reader = _Reader(section)
            for _ in range(reader.number()):
                names.add(reader.name())
                reader.byte(), reader.number()
    return names


def _public_names(component: _Component) -> dict[str, str]:
    """Unique name -> name in the fused module, for the exports that the host uses.

    `free` is libc's: a `cabi_post_...` gives back a reply's frame but not its bytes, so the host frees those.
    """
    shared = next(
        index
        for index, instance in enumerate(component.instances)
        if instance.module is not None and instance.arguments and "env" not in instance.arguments
    )  # the module that owns memory and stack: every library imports them from it as "env"
    public = {_unique(shared, name): name for name in ("memory", _STACK_POINTER)}
    for instance, name in component.lifted:
        if "#" in name:  # componentize-py's own, for taking the image
            continue
        public[_unique(instance, name)] = name
        public[_unique(instance, f"cabi_post_{name}")] = f"cabi_post_{name}"
    public[_unique(component.lifted[-1][0], "cabi_realloc")] = "cabi_realloc"
    libc = next(
        index
        for index, instance in enumerate(component.instances)
        if instance.module is not None and "__libc_free" in _exports(component.modules[instance.module])
    )
    public[_unique(libc, "free")] = "free"
    return public


def import_count(module: bytes) -> int:
    """How many things a core module imports."""
    return sum(_Reader(section).number() for kind, section in _sections(module) if kind == _IMPORT)


def _skip_constant(reader: _Reader) -> None:
    while (opcode := reader.byte()) != _END:
        if opcode in (_I32_CONST, _I64_CONST):
            reader.number()
        elif opcode not in (_I32_ADD, _I64_ADD):
            raise FuseError(f"a global's value has the unknown opcode {opcode:#x}")


def mutable_globals(module: bytes) -> set[str]:
    """The exported names of a core module's mutable globals; one that is not exported shows as its number.

    Raises:
      FuseError: when a global's value is more than a sum of constants.
    """
    numbers, names = [], {}
    for kind, section in _sections(module):
        reader = _Reader(section)
        if kind == _GLOBALS:
            for number in range(reader.number()):
                reader.byte()
                if reader.byte():
                    numbers.append(number)
                _skip_constant(reader)
        elif kind == _EXPORT:
            for _ in range(reader.number()):
                name, sort, number = reader.name(), reader.byte(), reader.number()
                if sort == _GLOBAL:
                    names[number] = name
    return {names.get(number, str(number)) for number in numbers}


def _check_state(path: pathlib.Path, disassemble: list[str]) -> None:
    """Makes sure that memory and stack pointer are all that an instance can change."""
    module = path.read_bytes()
    if import_count(module):
        raise FuseError("the fused module still imports something")
    if mutable_globals(module) != {_STACK_POINTER}:
        raise FuseError(f"mutable globals other than the stack pointer: {mutable_globals(module)}")
    if any(kind == _START for kind, _ in _sections(module)):
        raise FuseError("the fused module has a start function")
    with subprocess.Popen([*disassemble, str(path), "--all-features"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if change := _STATE_CHANGES.search(line):
                process.kill()
                raise FuseError(f"the fused module changes more than its memory: {change[1].decode()}")
    if process.returncode:
        raise FuseError(f"wasm-dis ended with status {process.returncode}")


def fuse(component_path: pathlib.Path, module_path: pathlib.Path, binaryen: Tool) -> None:
    """Writes the component at `component_path` as one core module without imports to `module_path`.

    Args:
      component_path: what `componentize-py componentize --stub-wasi` wrote.
      module_path: the result; intermediate files go into a folder beside it.
      binaryen: finds `wasm-merge`, `wasm-opt` and `wasm-dis`.

    Raises:
      FuseError: when the component has an unknown shape, or the result imports something or has state other
        than its memory and stack pointer.
      subprocess.CalledProcessError: when a tool fails.
    """
    component = _parse(component_path.read_bytes())
    folder = module_path.with_suffix(".fuse")
    folder.mkdir(parents=True, exist_ok=True)
    merged, public_only, optimized = (folder / f"{name}.wasm" for name in ("merged", "public", "optimized"))
    modules = _write_modules(component, folder)
    subprocess.run([*binaryen("wasm-merge"), *modules, "-o", str(merged), "--all-features"], check=True)
    public = _public_names(component)
    public_only.write_bytes(_rewrite(merged.read_bytes(), lambda module, name: (module, name), public.get))
    optimize = [*binaryen("wasm-opt"), str(public_only), "--all-features", *_PASSES, "-o", str(optimized)]
    subprocess.run(optimize, check=True)
    _check_state(optimized, binaryen("wasm-dis"))
    optimized.replace(module_path)
