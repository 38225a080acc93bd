"""The random numbers of a program that TensorFlow has lowered, as a TPU draws them."""

from typing import Any

from tensorflow.compiler.xla.service import hlo_pb2

# HLO's number of the random generator that is the machine's fastest.
RNG_DEFAULT = 0


def with_own_generator(hlo: bytes) -> bytes:
    """Replaces the random generator of a CPU by that of a TPU.

    Stateless random numbers are drawn by Philox on a CPU and by the hardware on a TPU
    (DefaultRngAlgForDeviceType in TensorFlow's stateless_random_ops.cc), whose state has two words,
    not three. Philox on a TPU's vector unit would take half of the default network's step.
    """
    module = hlo_pb2.HloModuleProto.FromString(hlo)
    new_id = 1 + max(each.id for part in module.computations for each in part.instructions)
    for computation in module.computations:
        shapes = {each.id: each.shape for each in computation.instructions}
        states: dict[int, int] = {}  # id of what draws -> id of the state it draws from
        ordered = []
        for each in computation.instructions:
            if each.opcode == "rng-bit-generator":
                states[each.id] = state = each.operand_ids[0]
                words = hlo_pb2.HloInstructionProto(
                    name=f"slice.{new_id}", opcode="slice", id=new_id, operand_ids=[state]
                )
                words.shape.CopyFrom(shapes[state])
                words.shape.dimensions[0] = each.shape.tuple_shapes[0].dimensions[0] = 2
                words.slice_dimensions.add(start=0, limit=2, stride=1)
                each.rng_algorithm, each.operand_ids[0] = RNG_DEFAULT, new_id
                ordered.append(words)
                new_id += 1
            elif _is_first(each) and each.operand_ids[0] in states:
                # The state after drawing, which nothing uses; a copy keeps its shape.
                each.opcode, each.operand_ids[0] = "copy", states[each.operand_ids[0]]
            ordered.append(each)
        # Serialized first, because clearing a message's list invalidates its elements.
        serialized = [each.SerializeToString() for each in ordered]
        del computation.instructions[:]
        for each in serialized:
            computation.instructions.add().ParseFromString(each)
    return module.SerializeToString()


def _is_first(instruction: Any) -> bool:
    """Returns whether an instruction takes the first element of a tuple."""
    return instruction.opcode == "get-tuple-element" and instruction.tuple_index == 0
