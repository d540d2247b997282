"""Asks three tools what is wrong with the code, and fails if anything is: ruff (code), import-linter (who imports whom), deptry (requirements).

    python tools/lint.py [ruff] [imports] [requirements]     # without a word: all three

Their settings are in pyproject.toml. deptry reads requirements from a file of that form only, and ours stand in settings.ini: it gets a made one."""
import os
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

BIN = Path(sys.executable).parent
EXTRAS = ('data', 'track', 'app', 'distributed', 'deploy', 'explain', 'dicom')


def requirements_toml(
    root:Path # Folder of the repository
)->str: # Text of a pyproject.toml
    "The requirements of settings.ini and the settings of deptry, as deptry reads them"
    cfg = ConfigParser(delimiters=['='])
    cfg.read(root/'settings.ini', encoding='utf-8')
    cfg = cfg['DEFAULT']
    extras = '\n'.join(f"{k} = {cfg[f'{k}_requirements'].split()}" for k in EXTRAS)
    own = (root/'pyproject.toml').read_text(encoding='utf-8').partition('[tool.deptry]')[2].split('\n[tool.ruff]')[0]
    return (f"[project]\nname = 'foprokd'\nversion = '0'\ndependencies = {cfg['requirements'].split()}\n"
            f"[project.optional-dependencies]\n{extras}\n[tool.deptry]{own}")


def ruff(root):
    "Exit status of ruff on modules, notebooks, tests and tools"
    return subprocess.run([BIN/'ruff', 'check', '--no-cache', '--quiet', '--output-format', 'concise', '.'], cwd=root).returncode


def imports(root):
    "Exit status of import-linter on the package that stands in `root`"
    env = {**os.environ, 'PYTHONPATH': str(root)}
    return subprocess.run([BIN/'lint-imports', '--no-cache', '--no-logo', 'pyproject.toml'], cwd=root, env=env).returncode


def requirements(root):
    "Exit status of deptry on the package"
    with tempfile.TemporaryDirectory() as d:
        (Path(d)/'pyproject.toml').write_text(requirements_toml(root), encoding='utf-8')
        return subprocess.run([BIN/'deptry', '--config', Path(d)/'pyproject.toml', '--no-ansi', 'foprokd'], cwd=root).returncode


if __name__ == '__main__':
    tools = {f.__name__: f for f in (ruff, imports, requirements)}
    asked = sys.argv[1:] or list(tools)
    sys.exit(max(tools[o](Path(__file__).resolve().parents[1]) for o in asked) and 1)
