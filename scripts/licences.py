"""Prints the licences of everything that is linked into some of the workspace's programs.

licences.py CRATE...     run in the checkout; asks cargo for what they depend on

Of crates under a choice of licences the MIT text is taken, or else whatever text the crate has. Texts
that several crates share stand there once. The order depends on names only.
"""

import json
import pathlib
import subprocess
import sys

OTHERS = """\
The Rust standard library: MIT or Apache-2.0, copyright The Rust Project Developers.
    https://github.com/rust-lang/rust
musl libc: MIT, copyright 2005-2020 Rich Felker, et al.
    https://musl.libc.org
LLVM's compiler-rt and libunwind: Apache-2.0 with LLVM exceptions.
    https://llvm.org
SQLite (in the manager): in the public domain.
    https://sqlite.org/copyright.html
"""


def main(roots):
    crates = linked(roots)
    texts = {}
    print("What the programs of kattila.status are made of, beside its own code.\n")
    for crate in crates:
        name = f"{crate['name']} {crate['version']}"
        print(f"{name}: {crate['license']}, {crate['repository'] or 'no repository named'}")
        text = licence_text(pathlib.Path(crate["manifest_path"]).parent)
        texts.setdefault(text, []).append(name)
    print()
    print(OTHERS)
    for text, names in texts.items():
        print("=" * 80)
        print(", ".join(names))
        print()
        print(text)


def linked(roots):
    """The packages from registries that end up in the programs: no build and no test dependencies."""
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-musl"],
            check=True,
            capture_output=True,
        ).stdout
    )
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    reached, waiting = set(), [id for id, package in packages.items() if package["name"] in roots and not package["source"]]
    while waiting:
        id = waiting.pop()
        if id in reached:
            continue
        reached.add(id)
        for dependency in nodes[id]["deps"]:
            is_macro = any("proc-macro" in target["kind"] for target in packages[dependency["pkg"]]["targets"])
            if not is_macro and any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    found = [packages[id] for id in reached if packages[id]["source"]]
    return sorted(found, key=lambda package: (package["name"], package["version"]))


def licence_text(folder):
    files = sorted(
        file for file in folder.iterdir() if file.name.upper().startswith(("LICEN", "COPYING", "UNLICENSE")) and file.is_file()
    )
    if not files:
        raise SystemExit(f"{folder.name}: no licence file; name its text here")
    chosen = next((file for file in files if "MIT" in file.name.upper()), files[0])
    return chosen.read_text(encoding="utf-8").strip() + "\n"


if __name__ == "__main__":
    main(set(sys.argv[1:]))
