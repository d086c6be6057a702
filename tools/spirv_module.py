"""What a compute shader in SPIR-V binds: its blocks of numbers with the place of each, and its workgroup."""
import dataclasses
import struct

ELEMENTS = 256  # that an array without an end has here

UNIFORM, PUSH_CONSTANT, STORAGE_BUFFER, TEXTURES = 2, 9, 12, 0
GROUPS_OF_LANES = range(61, 69)  # capabilities of GroupNonUniform, whose width is the device's
OTHER_LANES = {4423, 4431}       # SubgroupBallotKHR, SubgroupVoteKHR


class Unsupported(Exception):
    """Why the shader cannot be compared."""


@dataclasses.dataclass
class Block:
    type_name: str
    name: str
    kind: int                # UNIFORM, PUSH_CONSTANT, STORAGE_BUFFER
    set: int
    binding: int
    numbers: list            # (offset, NumPy type), all of them
    size: int                # in bytes


class Module:
    def __init__(self, data):
        words = struct.unpack(f"<{len(data) // 4}I", data)
        if words[0] != 0x07230203:
            raise Unsupported("no SPIR-V")
        self.names, self.types, self.constants, self.variables = {}, {}, {}, []
        self.decorations, self.members, self.capabilities, self.local = {}, {}, set(), None
        self.entries = []
        at = 5
        while at < len(words):
            count, op = words[at] >> 16, words[at] & 0xffff
            self.take(op, words[at + 1:at + count])
            at += count

    def take(self, op, word):
        if op == 5:
            self.names[word[0]] = text_of(word[1:])
        elif op == 17:
            self.capabilities.add(word[0])
        elif op == 15:
            self.entries.append(text_of(word[2:]))
        elif op == 16 and word[1] == 17:
            self.local = word[2:5]
        elif op == 331 and word[1] == 38:
            self.local = word[2:5]
            self.by_id = True
        elif op == 71:
            self.decorations.setdefault(word[0], {})[word[1]] = word[2:]
        elif op == 72:
            self.members.setdefault(word[0], {}).setdefault(word[1], {})[word[2]] = word[3:]
        elif 19 <= op <= 33:
            self.types[word[0]] = (op, word[1:])
        elif op in (43, 50):
            self.constants[word[1]] = word[2]
        elif op in (44, 51):
            self.constants[word[1]] = word[2:]
        elif op == 59:
            self.variables.append((word[1], word[0], word[2]))

    by_id = False

    def entry(self):
        if len(self.entries) != 1:
            raise Unsupported("several entries")
        return self.entries[0]

    def workgroup(self):
        for one, found in self.decorations.items():
            if found.get(11) == (25,):
                return tuple(self.constants[part] for part in self.constants[one])
        if self.local is None:
            raise Unsupported("no workgroup size")
        return tuple(self.constants[part] for part in self.local) if self.by_id else tuple(self.local)

    def blocks(self):
        if self.capabilities & OTHER_LANES or any(one in self.capabilities for one in GROUPS_OF_LANES):
            raise Unsupported("simd functions, whose width differs")
        found = []
        for variable, pointer, storage in self.variables:
            if storage == TEXTURES:
                raise Unsupported("textures")
            if storage not in (UNIFORM, PUSH_CONSTANT, STORAGE_BUFFER):
                continue
            _, (_, kind) = self.types[pointer]
            op, _ = self.types[kind]
            if op != 30:
                raise Unsupported("arrays of buffers")
            told, own = self.decorations.get(kind, {}), self.decorations.get(variable, {})
            where = STORAGE_BUFFER if 3 in told else storage
            numbers = sorted(self.numbers(kind, 0, {}))
            size = -(-max((at + int(dtype[2:]) for at, dtype in numbers), default=0) // 16) * 16
            found.append(Block(self.name_of(kind), self.name_of(variable), where,
                               own.get(34, (0,))[0], own.get(33, (0,))[0], numbers, size))
        return found

    def name_of(self, one):
        return self.names.get(one) or f"_{one}"

    def numbers(self, kind, at, told):
        """(offset, NumPy type) of each number of that type. `told`: decorations of the member that it is."""
        op, word = self.types[kind]
        if op in (21, 22):
            sign = "f" if op == 22 else "i" if word[1] else "u"
            if op == 22 and word[0] == 64:
                raise Unsupported("double")
            return [(at, f"<{sign}{word[0] // 8}")]
        if op == 23:
            width = self.width(word[0])
            return [part for k in range(word[1]) for part in self.numbers(word[0], at + k * width, {})]
        if op == 24:
            _, (element, rows) = self.types[word[0]]
            stride, width = told[7][0], self.width(element)
            along, across = (width, stride) if 4 in told else (stride, width)
            return [part for c in range(word[1]) for r in range(rows)
                    for part in self.numbers(element, at + c * along + r * across, {})]
        if op in (28, 29):
            count = self.constants.get(word[1]) if op == 28 else ELEMENTS
            if not isinstance(count, int):
                raise Unsupported("arrays whose length is computed")
            stride = self.decorations[kind][6][0]
            return [part for k in range(count) for part in self.numbers(word[0], at + k * stride, told)]
        if op == 30:
            return [part for k, member in enumerate(word)
                    for part in self.numbers(member, at + self.members[kind][k][35][0], self.members[kind][k])]
        raise Unsupported("pointers in buffers" if op == 32 else f"a type of kind {op} in a buffer")

    def width(self, kind):
        return self.types[kind][1][0] // 8


def text_of(words):
    return struct.pack(f"<{len(words)}I", *words).split(b"\0")[0].decode()
