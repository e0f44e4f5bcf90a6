"""``python -m forwardpass.server.grpc.generated.generate``: message classes from ``inference.proto``.

The classes live in a descriptor pool of their own. Every client library of the protocol calls its
package ``inference`` too, and two of those in the default pool cannot be imported into one process.
Needs ``grpcio-tools`` at the version that is locked for development.
"""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).parent
PROTO = HERE / "inference.proto"
MODULE = "inference_pb2.py"
TYPES = "inference_pb2.pyi"
SHARED, OWN = "_descriptor_pool.Default()", "_descriptor_pool.DescriptorPool()"


def generate() -> dict[str, str]:
    """File names and what they must hold."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        well_known = files("grpc_tools") / "_proto"
        arguments = [f"-I{HERE}", f"-I{well_known}", f"--python_out={folder}", f"--pyi_out={folder}", str(PROTO)]
        status = protoc.main(["protoc", *arguments])
        if status != 0:
            raise SystemExit(f"protoc ended with status {status}")
        module, types = ((Path(folder) / name).read_text() for name in (MODULE, TYPES))
    if module.count(SHARED) != 1:
        raise SystemExit(f"expected {SHARED} once in what protoc wrote; is its version another one?")
    return {MODULE: module.replace(SHARED, OWN), TYPES: types}


if __name__ == "__main__":
    for name, content in generate().items():
        (HERE / name).write_text(content)
