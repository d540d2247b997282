"""A process that has imported torch, fastai and foprokd, and forks a child for each program that a test runs.

Half of the time of a short command is its imports. A child of this process has its own arguments, folder, environment, standard
streams, exit code and random numbers, as a fresh process has; it shares what a fresh one draws anew, the seed of Python's hashes.
So a test of what must not depend on that, on the way a program is installed, or on signals starts a fresh process.
"""
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path


def child(argv, cwd, env, fds):
    "Run a file as a program in this process, and leave with its exit code"
    status = 1
    try:
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        for src, dst in zip((os.open(os.devnull, os.O_RDONLY), *fds), range(3)):
            os.dup2(src, dst)
            os.close(src)
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


def answer(conn, server):
    "Start the program of one request, say its process id and, once it has ended, its exit code; who asked and went away ends it"
    server.close()
    data, fds, *_ = socket.recv_fds(conn, 1 << 16, 2)
    while not data.endswith(b'\n'): data += conn.recv(1 << 16)
    request = json.loads(data)
    limit = time.monotonic() + request.pop('timeout')
    pid = os.fork()
    if not pid:
        conn.close()
        os.setsid()
        child(**request, fds=fds)
    conn.sendall(b'%d\n' % pid)
    for fd in fds: os.close(fd)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done: break
        gone = bool(select.select([conn], [], [], .01)[0]) # nobody writes a second time: the connection was closed
        if gone or time.monotonic() > limit:
            os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if gone: return
            break
    conn.sendall(b'%d\n' % os.waitstatus_to_exitcode(status))


def serve(fd):
    "Answer requests, several at a time, until nobody is there"
    parent = os.getppid()
    import fastai.vision.all  # noqa: F401
    import timm  # noqa: F401

    import foprokd.study.commands  # noqa: F401
    import foprokd.study.shown  # noqa: F401
    import foprokd.data.overview  # noqa: F401
    with socket.socket(fileno=fd) as s:
        s.settimeout(1)
        while os.getppid() == parent:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]: pass
            except ChildProcessError: pass
            try: conn, _ = s.accept()
            except TimeoutError: continue
            conn.settimeout(None)
            with conn:
                sys.stdout.flush(), sys.stderr.flush()
                if os.fork(): continue
                try: answer(conn, s)
                finally: os._exit(0)


class Started:
    "A program that has begun, with what `subprocess.Popen` says of one"
    def __init__(self, address, argv, cwd, env, fds, timeout=900):
        self.socket, self.returncode = socket.socket(socket.AF_UNIX), None
        self.socket.connect(address)
        data = json.dumps(dict(argv=[str(o) for o in argv], cwd=str(cwd), env=env, timeout=timeout)).encode() + b'\n'
        self.socket.sendall(data[socket.send_fds(self.socket, [data], fds):])
        self.lines = self.socket.makefile('r')
        self.pid = int(self.lines.readline())

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self.socket], [], [], timeout)[0]: raise subprocess.TimeoutExpired('a fork', timeout)
            self.returncode = int(self.lines.readline())
        return self.returncode

    def poll(self):
        try: return self.wait(0)
        except subprocess.TimeoutExpired: return None

    def terminate(self): os.kill(self.pid, signal.SIGTERM)

    def kill(self): os.kill(self.pid, signal.SIGKILL)


def instead(address):
    "Stand for the program that was asked for: it runs as a fork with this process's arguments, folder, environment and streams"
    proc = Started(address, sys.argv, os.getcwd(), dict(os.environ), [1, 2])
    signal.signal(signal.SIGTERM, lambda *_: os.kill(proc.pid, signal.SIGTERM))
    code = proc.wait()
    sys.exit(code if code >= 0 else 128 - code)


class WarmPython:
    "Runs files as `subprocess.run([sys.executable, ...])` does, without the imports"
    def __init__(self, address=None, env=None):
        self.proc, self.address = None, address
        if address: return # of one that another process of pytest has started
        self.folder = tempfile.TemporaryDirectory()
        self.address = str(Path(self.folder.name)/'socket')
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(self.address)
            s.listen(64) # who asks before the imports are over waits
            self.proc = subprocess.Popen([sys.executable, __file__, str(s.fileno())], env=env, cwd=self.folder.name, pass_fds=[s.fileno()])

    def start(self, argv, cwd, env, out, err, timeout=900):
        "Begin a program (the first argument is a file) whose output goes to two files"
        with open(out, 'w') as o, open(err, 'w') as e: return Started(self.address, argv, cwd, env, [o.fileno(), e.fileno()], timeout)

    def run(self, argv, cwd, env, timeout=900):
        "Arguments (the first is a file), folder and environment of the program; exit code and output as of `subprocess.run`"
        with tempfile.TemporaryDirectory() as d:
            out, err = Path(d)/'out', Path(d)/'err'
            code = self.start(argv, cwd, env, out, err, timeout).wait()
            return subprocess.CompletedProcess(argv, code, out.read_text(), err.read_text())

    def close(self):
        "End it"
        if self.proc is None: return
        self.proc.kill()
        self.proc.wait()
        self.folder.cleanup()


if __name__ == '__main__': serve(int(sys.argv[1]))
