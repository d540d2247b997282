"""Runs notebooks in one process, which may see a pretend GPU, and says which cells fail, and how.

    benchmarks/pretend_cuda/run.sh benchmarks/pretend_cuda/notebooks.py [--flags "cuda data"] nbs/05_prompt.ipynb ...

Cells that carry a flag are left out unless `--flags` names it. A notebook goes on after a cell that fails. Exit code 0 if none did."""
import argparse
import os
import sys
import time
from pathlib import Path

import torch
from execnb.shell import CaptureShell
from fastcore.xtras import working_directory
from nbdev.config import get_config
from nbdev.test import NBProcessor, _skip_cell


def failed(cell):
    "The error of a cell that was run, or None"
    errors = [o for o in cell.outputs if o.output_type == 'error'] if cell.cell_type == 'code' else []
    return f"{errors[0].ename}: {' '.join(str(errors[0].evalue).split())[:200]}" if errors else None


def run(file, flags):
    "Cells that were run, and the (number, source, error) of those that failed"
    nb = NBProcessor(file, rm_directives=False, process=True).nb
    skip = _skip_cell(nb, get_config(file.parent).tst_flags.split(), flags)
    for c in nb.cells: c['outputs'] = [] if c.cell_type == 'code' else c.get('outputs')
    shell = CaptureShell(file)
    with working_directory(file.parent): shell.run_all(nb, exc_stop=False, preproc=skip)
    ran = [(i, c) for i, c in enumerate(nb.cells) if c.cell_type == 'code' and not skip(c)]
    return len(ran), [(i, c.source, e) for i, c in ran if (e := failed(c))]


if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--flags', default='')
    ap.add_argument('files', nargs='+', type=Path)
    args = ap.parse_args()
    os.environ['IN_TEST'] = '1'
    print('on', torch.cuda.get_device_name() if torch.cuda.is_available() else 'the CPU', flush=True)
    cells = bad = 0
    for file in map(Path.absolute, args.files):
        start, spent = time.perf_counter(), time.process_time()
        n, errors = run(file, args.flags.split())
        print(f'{file.stem}: {len(errors)} of {n} cells failed, {time.perf_counter() - start:.0f} s ({time.process_time() - spent:.0f} of CPU)', flush=True)
        for i, source, e in errors: print(f"    cell {i}, {source.strip().splitlines()[0][:60]!r}: {e}", flush=True)
        cells, bad = cells + n, bad + len(errors)
    print(f'{bad} of {cells} cells failed')
    sys.exit(bool(bad))
