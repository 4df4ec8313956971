"""Run by `make test-context`: compile_context with a provider that writes EPContext engines where there is no GPU.

The engines are not opened again: OpenVINO's provider (1.23 and 1.24) does not read on a CPU what it writes there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from model_build.compile.context import Context, compile_context, engine_files

PROVIDER = "OpenVINOExecutionProvider"


def network(path: Path, seed: int) -> Path:
    """A convolution and SiLU over any rows and size, weights beside the graph, as exported components have them."""
    random = np.random.Generator(np.random.Philox(seed))
    weights = numpy_helper.from_array(random.standard_normal((8, 4, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["latents", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["a"], ["s"]),
        helper.make_node("Mul", ["a", "s"], ["noise_pred"]),
    ]
    sides = ["rows", 4, "height", "width"], ["rows", 8, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "unet",
        [helper.make_tensor_value_info("latents", TensorProto.FLOAT, sides[0])],
        [helper.make_tensor_value_info("noise_pred", TensorProto.FLOAT, sides[1])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    return path


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        told = {"provider": PROVIDER, "device_type": "CPU"}
        found = []
        for number in (1, 2):
            made = folder / f"digest-{number}"
            made.mkdir()
            graph = network(folder / f"{number}.onnx", number)
            compile_context(graph, made, "unet", Context(PROVIDER, f"unet-{number}", told))
            model = onnx.load(made / "unet_ctx.onnx")
            (node,) = model.graph.node
            assert node.op_type == "EPContext"
            (engine,) = engine_files(model)
            assert {path.name for path in made.iterdir()} == {"unet_ctx.onnx", engine}
            assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["latents", "noise_pred"]
            found.append((made / engine).read_bytes())
        assert found[0] != found[1], "engines of two networks"
    print(f"{PROVIDER}: two engines, each a context model of one node with its engine file beside it")


if __name__ == "__main__":
    main()
