"""`make bench`: measures everything, tells it, and writes build/bench.json and docs/benchmarks.md."""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace

from bench import calls, figures, lists, load, memory, oracle, page, plots, sharing, transfers, writes
from bench.figures import Figure
from bench.session import Session, say

Part = Callable[[Session], Iterator[Figure]]
PARTS: dict[str, tuple[Part, ...]] = {
    "calls": (calls.getting_an_image, calls.listing_images, calls.two_processes),
    "lists": (lists.pages_of_lists,),
    "sharing": (sharing.sharing_an_image,),
    "oracle": (oracle.hidden_from_never_existed,),
    "writes": (writes.one_tenants_counter,),
    "memory": (memory.idle_worker,),
    "transfers": (
        transfers.one_large_file,
        transfers.encrypted_files,
        transfers.calls_beside_transfers,
        transfers.copy_of_a_large_image,
    ),
}
"""What is measured; a new figure is one function more."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--quick", action="store_true", help="everything in under three minutes")
    parser.add_argument("--only", choices=PARTS, help="one part; the other figures stay as they are")
    parser.add_argument("--soak-minutes", type=float, help="only watch memory under load, for so long")
    given = parser.parse_args()
    wanted = {name: parts for name, parts in PARTS.items() if given.only in {None, name}}
    commands = {part: f"make bench ONLY={name}" for name, parts in wanted.items() for part in parts}
    if given.soak_minutes:
        commands = {memory.long_load: f"make bench-soak MINUTES={given.soak_minutes:g}"}
    load.require_h2load()
    if sharing.sharing_an_image in commands:
        sharing.require_ghz()
    measured = _measure(commands, quick=given.quick, soak_minutes=given.soak_minutes)
    # A part, and the long load, are measured by themselves; the other figures stay.
    alone = bool(given.only or given.soak_minutes)

    def stays(name: str) -> bool:
        return alone or memory.LONG_LOAD in name

    figures.keep(measured, stays=stays)
    if given.quick:
        say("1,000,000 images and the long load were left out: make bench; make bench-soak")
    else:
        figures.keep_details(measured, stays=stays)
        plots.draw()
        page.write(stays=stays)
    with_target = [figure for figure in measured if figure.met is not None]
    met = sum(bool(figure.met) for figure in with_target)
    print(f"\n{met} of {len(with_target)} targets met; {figures.FIGURES}")


def _measure(commands: dict[Part, str], *, quick: bool, soak_minutes: float) -> list[Figure]:
    measured: list[Figure] = []
    session = Session(quick=quick, soak_minutes=soak_minutes)
    try:
        for part, command in commands.items():
            say(part.__doc__ or "")
            for figure in part(session):
                measured.append(replace(figure, details={"command": command, **figure.details}))
                print(page.line(figure), flush=True)
    finally:
        session.close()
    return measured


if __name__ == "__main__":
    main()
