"""Writes PyTorch's formats without PyTorch, opcode by opcode, so that tests hold what no PyTorch
would write, too.
"""

import struct
import zipfile

import numpy as np

STORAGES = {
    "float16": "HalfStorage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "bfloat16": "BFloat16Storage",
    "int8": "CharStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
MAGIC = 0x1950A86A20F9469CFC6C


class Raw(bytes):
    """Opcodes as they are."""


class Sequence:
    """Values and opcodes, one after the other."""

    def __init__(self, *parts):
        self.parts = parts


class View:
    """A tensor that is a view of `base`: offset and stride in numbers. Views of one array share its
    storage.
    """

    def __init__(self, base, offset, shape, stride):
        self.base, self.offset, self.shape, self.stride = base, offset, shape, stride


def name(full):
    module, _, attribute = full.rpartition(".")
    return Raw(b"c%b\n%b\n" % (module.encode(), attribute.encode()))


def call(full, *arguments):
    return Sequence(name(full), Raw(b"("), *arguments, Raw(b"tR"))


def build(value, state):
    return Sequence(value, state, Raw(b"b"))


def script_module(kind, attributes):
    return build(Raw(name(f"__torch__.{kind}") + b")\x81"), attributes)


class Encoder:
    """Opcodes of a value; the arrays it meets become storages."""

    def __init__(self, older=False):
        self.older, self.bases = older, []

    def __call__(self, value):
        if isinstance(value, Raw):
            return bytes(value)
        if isinstance(value, Sequence):
            return b"".join(map(self, value.parts))
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        if isinstance(value, int):
            return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self, value)) + b"t"
        if isinstance(value, list):
            return b"](" + b"".join(map(self, value)) + b"e"
        if isinstance(value, dict):
            return b"}(" + b"".join(self(k) + self(v) for k, v in value.items()) + b"u"
        return self.tensor(value)

    def tensor(self, value):
        if isinstance(value, np.ndarray):
            steps = tuple(step // value.itemsize for step in value.strides)
            value = View(value, 0, value.shape, steps)
        number = next(
            (i for i, base in enumerate(self.bases) if base is value.base), len(self.bases)
        )
        if number == len(self.bases):
            self.bases.append(value.base)
        storage = name(f"torch.{STORAGES[value.base.dtype.name]}")
        view = (None,) if self.older else ()
        identity = Raw(
            self(("storage", storage, str(number), "cpu", value.base.size, *view)) + b"Q"
        )
        hooks = call("collections.OrderedDict")
        return self(
            call(
                "torch._utils._rebuild_tensor_v2",
                identity,
                value.offset,
                value.shape,
                value.stride,
                False,
                hooks,
            )
        )


encode = Encoder()


def pickled(value):
    return b"\x80\x02" + encode(value) + b"."


def write_zip(
    path,
    value,
    *,
    root="archive",
    compression=zipfile.ZIP_STORED,
    extra=(),
    order="little",
    data=None,
):
    """data: the pickle itself, in place of that of `value`."""
    encoder = Encoder()
    content = b"\x80\x02" + encoder(value) + b"." if data is None else data
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", content)
        archive.writestr(f"{root}/byteorder", order)
        for number, base in enumerate(encoder.bases):
            archive.writestr(
                f"{root}/data/{number}", base.tobytes() if order == "little" else _swapped(base)
            )
        archive.writestr(f"{root}/version", "3\n")
        for member, text in extra:
            archive.writestr(f"{root}/{member}", text)
    return path


def _swapped(base):
    return base.reshape(-1).view(np.uint8).reshape(-1, base.itemsize)[:, ::-1].tobytes()


def write_script(path, value, root="ViT-B-16"):
    code = [("constants.pkl", b"\x80\x02)."), ("code/__torch__.py", "import os\nos.abort()\n")]
    return write_zip(path, value, root=root, extra=code)


def write_older(path, value, *, count=None):
    """The stream that torch.save wrote before 1.6. count: what the storages say they hold, in place
    of the truth.
    """
    encoder = Encoder(older=True)
    content = encoder(value)
    keys = [str(number) for number in range(len(encoder.bases))]
    machine = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    magic = b"\x8a\x0a" + MAGIC.to_bytes(10, "little")
    with path.open("wb") as file:
        for part in (magic, encoder(1001), encoder(machine), content, encoder(keys)):
            file.write(b"\x80\x02" + part + b".")
        for base in encoder.bases:
            file.write(struct.pack("<q", base.size if count is None else count) + base.tobytes())
    return path
