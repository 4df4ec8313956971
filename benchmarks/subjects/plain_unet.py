"""A bundle's UNet with its inputs for residuals taken out: what it is when it is built without ControlNets."""

from __future__ import annotations

import openvino

from runtime.bundles.bundle import Bundle
from runtime.engines.openvino import OpenVinoGraph


def open_plain_unet(bundle: Bundle, threads: int) -> OpenVinoGraph:
    """Of an OpenVINO target; compiled as `runtime.engines.openvino.load_graphs` compiles the UNet as it is."""
    core = openvino.Core()
    model = core.read_model(bundle.files[bundle.target.components["unet"]])
    for residual in bundle.manifest.control.residuals if bundle.manifest.control else ():
        _take_out(model, residual.name)
    model.validate_nodes_and_infer_types()
    properties = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
    return OpenVinoGraph(core.compile_model(model, "CPU", {**properties, **bundle.target.options}))


def _take_out(model: openvino.Model, name: str) -> None:
    """Leave out the addition that the residual is for; whatever else looks at its shape looks at the other summand."""
    parameter = next(each for each in model.get_parameters() if each.get_friendly_name() == name)
    readers = list(parameter.output(0).get_target_inputs())
    (addition,) = (reader.get_node() for reader in readers if reader.get_node().get_type_name() == "Add")
    (summand,) = (value for value in addition.input_values() if value.get_node().get_friendly_name() != name)
    for reader in [*addition.output(0).get_target_inputs(), *readers]:
        if reader.get_node().get_friendly_name() != addition.get_friendly_name():
            reader.replace_source_output(summand)
    model.remove_parameter(parameter)
