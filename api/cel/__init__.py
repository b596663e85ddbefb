"""CEL, the Common Expression Language, as Kubernetes has it: admission policies, match conditions, rules of custom resources.

The language itself is Google's C++ implementation (cel-expr-python): its parser, its type checker, its evaluator. What Kubernetes adds is here:
functions on strings, lists, quantities, URLs, addresses, versions, regular expressions and the authorizer, and a bound on what an expression may cost.

    env = environment(object=DYN, oldObject=DYN)
    program = env.compile("object.spec.replicas <= 5")     # CompileError
    program.run({"object": deployment, "oldObject": None}) # EvaluationError

Expressions are compiled once and kept (:meth:`Environment.compile`); an evaluation takes some 20 µs.
"""

from kubeling.api.cel.environment import (
    AUTHORIZER,
    BOOL,
    DYN,
    INT,
    MAP,
    POLICY,
    REQUEST,
    STRING,
    CompileError,
    Environment,
    EvaluationError,
    Program,
    environment,
)

__all__ = [
    "AUTHORIZER",
    "BOOL",
    "DYN",
    "INT",
    "MAP",
    "POLICY",
    "REQUEST",
    "STRING",
    "CompileError",
    "Environment",
    "EvaluationError",
    "Program",
    "environment",
]
