"""Estimates read from the texts of programs that are written by hand."""

import pytest

from speech.tpu.estimate import OTHER, PARTS, TOPOLOGIES, Estimate, Topology, estimate
from utils import UserError

# The compiler's annotation of an instruction for which it has no estimate.
NO_ESTIMATE = 9223372036854775807


def instruction(
    operation: str, cycles: int | None = None, scope: str = "", result: str = "f32[8,128]"
) -> str:
    """Returns a line of a computation, as libtpu writes it."""
    # Layouts look like calls: {1,0:T(8,128)(2,1)S(1)}.
    line = f"  %it.1 = {result}"
    line += "{1,0:T(8,128)(2,1)S(1)} " if "(" not in result else " "
    line += f"{operation}(%param.1, /*index=1*/%constant.7)"
    line += (
        f', metadata={{op_name="{scope}" source_file="model.py" source_line=7}}' if scope else ""
    )
    if cycles is not None:
        line += (
            ', backend_config={"flag_configs":[],"window_config":{"kernel_window_bounds":[],'
            f'"output_window_bounds":["16","1"],"estimated_cycles":"{cycles}",'
            '"iteration_bounds":["1"]},"used_scoped_memory_configs":[]}'
        )
    return line


def loop(name: str, scope: str, result: str = "(s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)})") -> str:
    return (
        f"  %while.3 = {result} while(%tuple.1), condition=%{name}_condition, "
        f'body=%{name}_body, metadata={{op_name="{scope}"}}'
    )


def computation(name: str, *lines: str) -> str:
    """Returns a computation's text; name: `ENTRY main` for the program's entry."""
    entry, name = ("ENTRY ", name[6:]) if name.startswith("ENTRY ") else ("", name)
    header = f"{entry}%{name} (arg.1: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {{"
    return "\n".join([header, *lines, "}\n"])


def condition(name: str, bound: str) -> str:
    """Returns a loop's condition; bound: the instruction whose result it compares with."""
    return computation(
        f"{name}_condition",
        "  %arg.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)",
        f"  %bound.1 = s32[]{{:T(128)}} {bound}",
        "  %counter.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0",
        "  ROOT %compare.1 = pred[]{:T(512)} compare(%counter.1, %bound.1), direction=LT",
    )


def program(*computations: str) -> str:
    header = (
        "HloModule step.1, is_scheduled=true, entry_computation_layout="
        '{(f32[8,128]{1,0:T(8,128)})->f32[]{:T(128)}}, frontend_attributes={layouts="0"}\n\n'
    )
    return header + "\n".join(computations)


# --- Parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "part"),
    [
        ("convolutions/Conv2D", "convolutions"),
        ("gradients/convolutions/Conv2D_grad/Conv2DBackpropFilter", "convolutions"),
        ("recurrent/while/MatMul", "recurrent"),
        ("gradients/recurrent/IdentityN_grad/while", "recurrent"),
        ("call.1396/recurrent/add_2", "recurrent"),
        ("loss/LogSoftmax", "loss"),
        ("a/b;loss/while/add", "loss"),
        ("gradients/loss/IdentityN_grad/mul", "loss"),
        ("Adam/update_rnn/kernel/ResourceApplyAdam", "optimizer"),
        ("global_norm/L2Loss", "optimizer"),
        ("clip_by_global_norm/mul", "optimizer"),
        ("output/einsum/Einsum", OTHER),
        ("gradients/output/einsum/Einsum_grad", OTHER),
        ("unconvolutions/Conv2D", OTHER),
        ("XLA_Args", OTHER),
        ("", OTHER),
    ],
)
def test_cycles_count_for_the_part_of_their_scope(scope: str, part: str) -> None:
    text = program(computation("ENTRY main", instruction("fusion", 304, scope)))
    assert estimate(text).cycles == {part: 304}


def test_cycles_of_a_part_are_added_up() -> None:
    text = program(
        computation(
            "ENTRY main",
            instruction("fusion", 300, "loss/add"),
            instruction("copy", 20, "recurrent/transpose"),
            instruction("convert", 4, "gradients/loss/Cast"),
        )
    )
    found = estimate(text)
    assert found.cycles == {"loss": 304, "recurrent": 20}
    assert found.unpriced_bytes == 0 and found.endless_loops == 0


def test_instructions_in_a_fusion_count_only_with_the_fusion() -> None:
    """The fusion's estimate includes them."""
    text = program(
        computation("fused_computation.1", instruction("convolution", 1000, "loss/MatMul")),
        computation("ENTRY main", instruction("fusion", 304, "loss/MatMul")),
    )
    assert estimate(text).cycles == {"loss": 304}


# --- Loops ----------------------------------------------------------------------------------------


def test_body_of_a_loop_counts_once_for_each_turn() -> None:
    text = program(
        computation(
            "scan_body",
            instruction("fusion", 100, "recurrent/while/MatMul"),
            instruction("reverse", None, "recurrent/while/Reverse"),
        ),
        condition("scan", "constant(24)"),
        computation(
            "ENTRY main", instruction("copy", 7, "loss/add"), loop("scan", "recurrent/while")
        ),
    )
    found = estimate(text)
    assert found.cycles == {"recurrent": 2400, "loss": 7}
    assert found.unpriced_bytes == 24 * 8 * 128 * 4
    assert found.endless_loops == 0


def test_turns_are_read_from_the_loops_annotation() -> None:
    """If the bound is no constant of the condition."""
    counted = loop("scan", "loss/while") + ', backend_config={"known_trip_count":{"n":"865"}}'
    text = program(
        computation("scan_body", instruction("fusion", 2, "loss/while/add")),
        condition("scan", "get-tuple-element(%arg.1), index=2"),
        computation("ENTRY main", counted),
    )
    found = estimate(text)
    assert found.cycles == {"loss": 1730} and found.endless_loops == 0


def test_turns_of_nested_loops_are_multiplied() -> None:
    text = program(
        computation("inner_body", instruction("fusion", 10, "loss/while/while/add")),
        condition("inner", "constant(16)"),
        computation(
            "outer_body",
            instruction("fusion", 3, "loss/while/add"),
            loop("inner", "loss/while/while"),
        ),
        condition("outer", "constant(55), metadata={}"),
        computation("ENTRY main", loop("outer", "loss/while")),
    )
    assert estimate(text).cycles == {"loss": 55 * (3 + 16 * 10)}


def test_instructions_in_a_loop_count_for_the_loops_part() -> None:
    """In a gradient's loop the compiler gives instructions other names, or none."""
    text = program(
        computation("inner_body", instruction("fusion", 1)),
        condition("inner", "constant(3)"),
        computation(
            "outer_body",
            instruction("fusion", 10, "loss/add"),
            instruction("copy", 100),
            loop("inner", ""),
        ),
        condition("outer", "constant(2)"),
        computation("ENTRY main", loop("outer", "gradients/recurrent/IdentityN_grad/while")),
    )
    assert estimate(text).cycles == {"recurrent": 2 * (10 + 100 + 3)}


def test_loop_without_a_bound_counts_once_and_is_reported() -> None:
    text = program(
        computation("inner_body", instruction("fusion", 10, "recurrent/add")),
        condition("inner", "get-tuple-element(%arg.1), index=1"),
        computation("outer_body", loop("inner", "recurrent/while/while")),
        condition("outer", "constant(24)"),
        computation("ENTRY main", loop("outer", "recurrent/while"), loop("inner", "loss/while")),
    )
    found = estimate(text)
    assert found.cycles == {"recurrent": 240, "loss": 10}
    assert found.endless_loops == 2


# --- Instructions without an estimate -------------------------------------------------------------


@pytest.mark.parametrize("cycles", [None, NO_ESTIMATE])
@pytest.mark.parametrize(
    ("result", "size"),
    [
        ("f32[104,8]", 104 * 8 * 4),
        ("bf16[3,5]", 3 * 5 * 2),
        ("pred[7]", 7),
        ("s32[]", 4),
        # The first of several results.
        ("(s8[16]{0:T(512)}, f32[1000]{0:T(1024)})", 16),
    ],
)
def test_instruction_without_an_estimate_counts_its_bytes(
    result: str, size: int, cycles: int | None
) -> None:
    text = program(
        computation(
            "ENTRY main",
            instruction("fusion", 5, "loss/add"),
            instruction("gather", cycles, "loss/GatherV2", result),
        )
    )
    found = estimate(text)
    assert found.cycles == {"loss": 5} and found.unpriced_bytes == size


@pytest.mark.parametrize(
    "line",
    [
        "  %arg.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)",
        "  %constant.641 = bf16[6,6,1]{0,1,2:T(8,128)(2,1)} constant({...})",
        "  %get-tuple-element.1 = f32[8,128]{1,0:T(8,128)S(1)} get-tuple-element(%it.1), index=0",
        "  ROOT %tuple.1 = (f32[8,128]{1,0:T(8,128)}) tuple(%get-tuple-element.1)",
        "  %bitcast.388 = f32[1,8,128]{2,1,0:T(8,128)S(1)} bitcast(%it.1)",
        "  %copy-start.5 = (f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, "
        "u32[]{:S(2)}) copy-start(%arg.1), cross_program_prefetch_index=0",
        "  %copy-done.5 = f32[8,128]{1,0:T(8,128)S(1)} copy-done(%copy-start.5)",
        "  %custom-call.1 = f32[24,2,8,128]{3,2,1,0:T(8,128)S(1)} custom-call(), "
        'custom_call_target="AllocateBuffer"',
    ],
    ids=lambda line: line.split("= ")[1].split("(%")[0].split()[-1],
)
def test_instruction_that_takes_no_time_is_not_counted(line: str) -> None:
    found = estimate(program(computation("ENTRY main", line, instruction("fusion", 5, "loss/add"))))
    assert found.cycles == {"loss": 5} and found.unpriced_bytes == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HloModule step.1, is_scheduled=true",
        program(computation("main", instruction("fusion", 5))),  # no entry
        program(computation("ENTRY main", instruction("fusion", None, "loss/add"))),
        program(computation("ENTRY main", instruction("fusion", NO_ESTIMATE))),
    ],
    ids=["nothing", "header", "no entry", "no cycles", "sentinel"],
)
def test_text_without_any_estimate_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"another version of libtpu.*--compiler_python"):
        estimate(text)


# --- Sums over the cores --------------------------------------------------------------------------


def test_all_reduce_counts_the_bytes_of_all_its_results() -> None:
    text = program(
        computation(
            "ENTRY main",
            instruction("fusion", 5, "loss/add"),
            instruction("all-reduce", None, "XlaAllReduce", "f32[]"),
            instruction(
                "all-reduce", None, "XlaAllReduce_1", "(f32[3,5]{1,0:T(8,128)}, /*index=1*/f32[7])"
            ),
            instruction("all-reduce-start", None, "XlaAllReduce_2", "bf16[2,8]"),
            instruction("all-reduce-done", None, "XlaAllReduce_2", "bf16[2,8]"),
        )
    )
    found = estimate(text)
    assert found.summed_bytes == 4 + 4 * (15 + 7) + 2 * 16
    assert found.cycles == {"loss": 5} and found.unpriced_bytes == 0


def test_sum_goes_twice_around_a_ring_of_the_cores() -> None:
    four = Topology("four:2x2", 4, 1, 8e9, 8, link_bytes=50e9)
    # In parts of a quarter: three to add it up, three to pass it on.
    assert four.sum_seconds(10_000_000, cores=4) == pytest.approx(6 * 2_500_000 / 50e9)
    assert four.sum_seconds(0, cores=1) == 0


@pytest.mark.parametrize(
    ("name", "gigabits", "ports"), [("v5e", 1600, 4), ("v5p", 4800, 6), ("v6e", 3200, 4)]
)
def test_link_has_its_part_of_the_published_bandwidth(
    name: str, gigabits: float, ports: int
) -> None:
    assert TOPOLOGIES[name].link_bytes == gigabits * 1e9 / 8 / ports


# --- Time -----------------------------------------------------------------------------------------


def test_milliseconds_are_cycles_divided_by_the_clock_rate() -> None:
    slow = Topology("slow:1x1", 1, memory_bytes=1, peak_flops=8e9, flops_a_cycle=8)
    found = Estimate()
    found.cycles.update({"loss": 2_000_000, OTHER: 500})
    parts = found.milliseconds(slow)
    assert set(parts) == {*PARTS, OTHER}
    assert parts["loss"] == pytest.approx(2.0) and parts[OTHER] == pytest.approx(0.0005)
    assert parts["recurrent"] == 0


@pytest.mark.parametrize(
    ("name", "megahertz"),
    [("v2", 700), ("v3", 940), ("v4", 1050), ("v5e", 1500), ("v5p", 1750), ("v6e", 1750)],
)
def test_clock_rate_that_follows_from_the_peak_is_near_the_published_one(
    name: str, megahertz: float
) -> None:
    assert TOPOLOGIES[name].hertz / 1e6 == pytest.approx(megahertz, rel=0.02)


@pytest.mark.parametrize(
    ("name", "gibibytes"),
    [("v2", 8), ("v3", 16), ("v4", 32), ("v5e", 16), ("v5p", 96), ("v6e", 32), ("tpu7x", 96)],
)
def test_memory_is_the_published_one_minus_the_compilers_reserve(name: str, gibibytes: int) -> None:
    """test_compiler.py compares the exact numbers with the compiler's.

    A TPU7x core has half of its chip's memory. That of a v5p is published without the reserve.
    """
    published = gibibytes * 2**30
    assert 0.93 * published < TOPOLOGIES[name].memory_bytes < published
