"""ONNX files that others may put into a shared store or a bundle: content and the reason for which each is refused."""

import json

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from toy_models import COLOURS, colour_model

MEAN = np.eye(3, dtype=np.float32) / 50


def colours(change=lambda model: None, side=32):
    """The content of a model of colours after a change of its ModelProto."""
    model = colour_model(side=side)
    helper.set_model_props(model, {"class_names": json.dumps(COLOURS)})
    change(model)
    return model.SerializeToString(deterministic=True)


def colours_of(preprocessing):
    """A model of colours whose metadata name this preprocessing."""
    facts = {"class_names": json.dumps(COLOURS), "preprocessing": preprocessing}
    return colours(lambda model: helper.set_model_props(model, facts))


def external(location):
    def change(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def insert(node, *constants):
    """Insert a node between MatMul and Softmax: its first input is `logits`, its output `changed`."""

    def change(model):
        model.graph.initializer.extend(constants)
        model.graph.node[3].input[0] = "changed"
        model.graph.node.insert(3, node)

    return change


def loop(trips):
    """A loop that copies the logits."""
    count, go_on = (helper.make_tensor_value_info(name, kind, []) for name, kind in (("i", 7), ("go_on", 9)))
    value, copy = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in ("value", "copy"))
    still = helper.make_tensor_value_info("still", TensorProto.BOOL, [])
    nodes = [helper.make_node("Identity", ["go_on"], ["still"]), helper.make_node("Identity", ["value"], ["copy"])]
    body = helper.make_graph(nodes, "body", [count, go_on, value], [still, copy])
    constants = numpy_helper.from_array(np.array(trips), "trips"), numpy_helper.from_array(np.array(True), "yes")
    return insert(helper.make_node("Loop", ["trips", "yes", "logits"], ["changed"], "Loop_3", body=body), *constants)


def branch(model):
    """Replace MatMul by an If whose branches are equal."""
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])
    body = helper.make_graph([helper.make_node("MatMul", ["mean", "scale"], ["out"])], "body", [], [out])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node[2].CopyFrom(helper.make_node("If", ["yes"], ["logits"], then_branch=body, else_branch=body))


def huge_memory(model):
    """Repeat the logits 2**40 times and take their mean."""
    repeats = numpy_helper.from_array(np.array([2**20, 2**20, 1, 1]), "repeats")
    model.graph.initializer.append(repeats)
    nodes = [
        helper.make_node("Expand", ["logits", "repeats"], ["many"]),
        helper.make_node("ReduceMean", ["many"], ["changed"], axes=[0, 1], keepdims=0),
    ]
    model.graph.node[3].input[0] = "changed"
    for node in reversed(nodes):
        model.graph.node.insert(3, node)


def operator(domain, name):
    def change(model):
        insert(helper.make_node(name, ["logits"], ["changed"], domain=domain))(model)
        model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


def function(model):
    """Hide an operator in a function of the model."""
    softmax = [helper.make_node("Identity", ["x"], ["y"])]
    opset = [helper.make_opsetid("", 13)]
    model.functions.append(helper.make_function("mine", "Copy", ["x"], ["y"], softmax, opset))
    model.ir_version = 8
    operator("mine", "Copy")(model)


def rename(side):
    def change(model):
        values, node = (model.graph.input, 0) if side == "input" else (model.graph.output, 3)
        values[0].name = "other"
        (model.graph.node[node].input if side == "input" else model.graph.node[node].output)[0] = "other"

    return change


def fixed_batch(model):
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1


def not_square(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 48


def any_side(model):
    for axis in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"


def float_input(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def second_output(model):
    model.graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]))


def softmax_of_one_batch(model):
    model.graph.node[3].attribute[0].i = 0


def no_softmax(model):
    model.graph.node[3].CopyFrom(helper.make_node("Identity", ["logits"], ["probabilities"]))


def two_columns(model):
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(MEAN[:, :2].copy(), "scale"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2


def not_a_number(model):
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(MEAN * np.nan, "scale"))


INTERFACE, PROBABILITIES = "its input and output are .*, expected were image", "its outputs are not probabilities"
SUBGRAPH, FOREIGN = "it has operators with a subgraph", "it has operators that are not ONNX's own"
OUTSIDE = "it refers to data in other files"
# What anyone refuses: content of the file, reason
HOSTILE = {
    "junk": (b"junk", "."),
    "empty": (b"", "."),
    "truncated": (colours()[:-40], "."),
    "another input name": (colours(rename("input")), INTERFACE),
    "another output name": (colours(rename("output")), INTERFACE),
    "a float input": (colours(float_input), INTERFACE),
    "a fixed batch size": (colours(fixed_batch), INTERFACE),
    "images of 15 pixels": (colours(side=15), f"{INTERFACE}.*, with a side of 16 to 128"),
    "images of 129 pixels": (colours(side=129), INTERFACE),
    "images that are not square": (colours(not_square), INTERFACE),
    "images of any side": (colours(any_side), INTERFACE),
    "two outputs": (colours(second_output), INTERFACE),
    "two classes": (colours(two_columns), INTERFACE),
    "NaN outputs": (colours(not_a_number), PROBABILITIES),
    "logits as outputs": (colours(no_softmax), PROBABILITIES),
    "a softmax over the images": (colours(softmax_of_one_batch), PROBABILITIES),
    "external data": (colours(external("weights.bin")), OUTSIDE),
    "external data above": (colours(external("../weights.bin")), OUTSIDE),
    "external data at an absolute path": (colours(external("/dev/zero")), OUTSIDE),
    "an operator of another domain": (colours(operator("mine", "Copy")), FOREIGN),
    "an endless loop": (colours(loop(2**62)), SUBGRAPH),
    "too much memory": (colours(huge_memory), "[Mm]emory|alloc|overflow"),
    "no names of classes": (
        colours(lambda model: model.ClearField("metadata_props")),
        "the classes of its|has the classes",
    ),
    "other names of classes": (
        colours(lambda model: helper.set_model_props(model, {"class_names": json.dumps(["\x1b[2J", "b", "c"])})),
        "the classes of its|has the classes",
    ),
}
# What only `make export` refuses
STRICT = {
    "an operator of ONNX Runtime": (colours(operator("com.microsoft", "Gelu")), FOREIGN),
    "a function": (colours(function), FOREIGN),
    "a short loop": (colours(loop(1)), SUBGRAPH),
    "a branch": (colours(branch), SUBGRAPH),
    "too many nodes": (
        colours(lambda model: model.graph.node.extend([helper.make_node("Identity", ["logits"], [""])] * 20_001)),
        "its graph has 20,005 nodes",
    ),
    "a constant output": (
        colours(lambda model: model.graph.initializer[0].CopyFrom(numpy_helper.from_array(MEAN * 0, "scale"))),
        "its validation accuracy is 0.3333, measured on this machine, but it is recorded with 1.0000",
    ),
}
