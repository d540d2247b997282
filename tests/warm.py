"""A process that has imported torch, fastai and foprokd, and forks a child for each program that a test runs.

Half of the time of a short command is its imports. A child of this process has its own arguments, folder, environment, standard
streams, exit code and random numbers, as a fresh process has; it shares what a fresh one draws anew, the seed of Python's hashes.
So a test of what must not depend on that, on the way a program is installed, or on signals starts a fresh process.
"""
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path


def child(argv, cwd, env, out, err):
    "Run a file as a program in this process, and leave with its exit code"
    status = 1
    try:
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        for path, fd in ((os.devnull, 0), (out, 1), (err, 2)): os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), fd)
        import numpy as np
        import torch
        random.seed()
        np.random.seed()
        torch.seed()
        sys.argv = argv
        sys.path[0] = str(Path(argv[0]).resolve().parent)
        runpy.run_path(argv[0], run_name='__main__')
        status = 0
    except SystemExit as e:
        if not (e.code is None or isinstance(e.code, int)): print(e.code, file=sys.stderr)
        status = 0 if e.code is None else e.code if isinstance(e.code, int) else 1
    except BaseException: traceback.print_exc()
    finally:
        try: # what a process does when it ends
            import atexit
            atexit._run_exitfuncs()
            sys.stdout.flush(), sys.stderr.flush()
        finally: os._exit(status & 255)


def serve(address):
    "Answer one request after another, until nobody is there"
    import fastai.vision.all  # noqa: F401
    import timm  # noqa: F401

    import foprokd.study.commands  # noqa: F401
    import foprokd.data.overview  # noqa: F401
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(address)
        s.listen()
        s.settimeout(1)
        parent = os.getppid()
        print('ready', flush=True)
        while True:
            try: conn, _ = s.accept()
            except TimeoutError:
                if os.getppid() == parent: continue
                return
            conn.settimeout(None)
            with conn, conn.makefile('rw') as f:
                request = json.loads(f.readline())
                limit = time.monotonic() + request.pop('timeout')
                sys.stdout.flush(), sys.stderr.flush()
                pid = os.fork()
                if not pid:
                    os.setsid()
                    child(**request)
                done, status = 0, 0
                while not done:
                    done, status = os.waitpid(pid, os.WNOHANG)
                    if not done and time.monotonic() > limit:
                        os.killpg(pid, signal.SIGKILL)
                        done, status = os.waitpid(pid, 0)
                    if not done: time.sleep(.01)
                f.write(json.dumps(os.waitstatus_to_exitcode(status)) + '\n')


class WarmPython:
    "Runs files as `subprocess.run([sys.executable, ...])` does, without the imports"
    def __init__(self, env):
        self.folder = tempfile.TemporaryDirectory()
        self.address = str(Path(self.folder.name)/'socket')
        self.proc = subprocess.Popen([sys.executable, __file__, self.address], stdout=subprocess.PIPE, env=env, text=True, cwd=self.folder.name)
        if self.proc.stdout.readline() != 'ready\n': raise RuntimeError('the warm process did not start')

    def run(self, argv, cwd, env, timeout=900):
        "Arguments (the first is a file), folder and environment of the program; exit code and output as of `subprocess.run`"
        with tempfile.TemporaryDirectory() as d, socket.socket(socket.AF_UNIX) as s:
            out, err = Path(d)/'out', Path(d)/'err'
            s.connect(self.address)
            with s.makefile('rw') as f:
                f.write(json.dumps(dict(argv=[str(o) for o in argv], cwd=str(cwd), env=env, out=str(out), err=str(err), timeout=timeout)) + '\n')
                f.flush()
                code = json.loads(f.readline())
            return subprocess.CompletedProcess(argv, code, *(o.read_text() if o.exists() else '' for o in (out, err)))

    def close(self):
        "End it"
        self.proc.kill()
        self.proc.wait()
        self.folder.cleanup()


if __name__ == '__main__': serve(sys.argv[1])
