"""Turns the contract into Python code, and checks the contract itself.

Why it exists: the rules in the contract import `buf/validate/validate.proto`, which no package
ships as a file and which no registry needs to be asked for: the installed `protovalidate`
carries its descriptor. This script writes that descriptor to `.build/proto/`, hands it to
protoc, and hands buf a compiled image.

It knows nothing of the Python code that uses the contract.

    python proto/generate.py               write the generated modules beside the .proto files
    python proto/generate.py --out DIR     write them to DIR instead
    python proto/generate.py lint          buf lint, and buf breaking against the frozen contract
    python proto/generate.py freeze        make the contract as it is now the frozen one
"""

import argparse
import subprocess
import sys
from pathlib import Path

import google.api.http_pb2
import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from protovalidate import ViolationPb

ROOT = Path(__file__).resolve().parent
BUILD = ROOT.parent / ".build" / "proto"
FROZEN = ROOT / "aisle.binpb"
RULES_FILE = "buf/validate/validate.proto"
BIN = Path(sys.executable).parent


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    parser = argparse.ArgumentParser(description="Generate and check the contract's code.")
    parser.add_argument("command", nargs="?", choices=("generate", "lint", "freeze"))
    parser.add_argument("--out", type=Path, default=ROOT, help="where generated modules go")
    options = parser.parse_args(arguments)
    BUILD.mkdir(parents=True, exist_ok=True)
    if options.command == "lint":
        return lint()
    if options.command == "freeze":
        return write_image(FROZEN)
    return generate(options.out)


def generate(out: Path) -> int:
    """Writes `*_pb2.py`, `*_pb2_grpc.py` and their `.pyi` to `out`; the exit status of protoc."""
    out.mkdir(parents=True, exist_ok=True)
    files = contract_files()
    services = [name for name in files if "\nservice " in (ROOT / name).read_text()]
    stub_options = "readable_stubs,generate_concrete_servicer_stubs,quiet"
    return (
        protoc(f"--python_out={out}", *files, RULES_FILE)
        or protoc(f"--mypy_out={stub_options}:{out}", *files)
        or protoc(f"--grpc_python_out={out}", f"--mypy_grpc_out={stub_options}:{out}", *services)
    )


def lint() -> int:
    """Checks style and comments, and that no frozen message changed its meaning."""
    image = BUILD / "aisle.binpb"
    failed = write_image(image, "--include_source_info")
    config = f"--config={ROOT / 'buf.yaml'}"
    style = run(BIN / "buf", "lint", image, config, "--path=aisle")
    against = run(BIN / "buf", "breaking", image, f"--against={FROZEN}", config, "--path=aisle")
    return failed or style or against


def write_image(image: Path, *options: str) -> int:
    """Compiles the contract and all it imports into one descriptor set."""
    return protoc("--include_imports", f"--descriptor_set_out={image}", *options, *contract_files())


def contract_files() -> list[str]:
    """The contract's own files, relative to this folder."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "aisle").rglob("*.proto"))


def protoc(*arguments: str) -> int:
    """Runs protoc with everything on its path that the contract imports."""
    google_protos = Path(google.api.http_pb2.__file__).parents[2]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    return run(
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"--descriptor_set_in={write_rules()}",
        f"--plugin=protoc-gen-mypy={BIN / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={BIN / 'protoc-gen-mypy_grpc'}",
        *[f"-I{folder}" for folder in (ROOT, google_protos, well_known)],
        *arguments,
    )


def write_rules() -> Path:
    """Writes the descriptor of the validation rules, without the options for other languages."""
    file = FileDescriptorProto.FromString(ViolationPb.desc().file.proto.to_binary())
    file.ClearField("options")
    path = BUILD / "validate.binpb"
    path.write_bytes(FileDescriptorSet(file=[file]).SerializeToString(deterministic=True))
    return path


def run(*command: str | Path) -> int:
    """Runs a command that may speak for itself; its exit status."""
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
