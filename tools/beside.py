"""Installs a wheel into an environment of its own, beside the packages of the environment that runs this, without a download:

    python tools/beside.py WHEEL EXTRA ENVIRONMENT

The new environment sees what the wheel and its extra require, and what that requires in turn, and nothing else: so a package that
the wheel needs and does not name is missing there, as it is for a stranger. A requirement that is not met is named."""
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def required(
    lines:list[str], # Requirements as a wheel names them
    extras:set[str] # Extras that are asked for
)->list[Requirement]:
    "Those that hold here"
    reqs = [Requirement(o) for o in lines or []]
    return [o for o in reqs if o.marker is None or any(o.marker.evaluate({'extra': e}) for e in (extras or {''}))]


def closure(
    lines:list[str], # Requirements of the wheel
    extras:set[str] # Extras that are asked for
)->dict[str, object]: # Name -> distribution
    "All distributions that the requirements bring; `SystemExit` names those that are missing or too old"
    todo, found, bad = required(lines, {'', *extras}), {}, []
    seen = set()
    while todo:
        req = todo.pop()
        key = canonicalize_name(req.name), frozenset(req.extras)
        if key in seen: continue
        seen.add(key)
        try: dist = distribution(req.name)
        except PackageNotFoundError:
            bad.append(f'{req} is not installed')
            continue
        if not req.specifier.contains(dist.version, prereleases=True): bad.append(f'{req} is not met by {dist.version}')
        found[key[0]] = dist
        todo += required(dist.requires, {'', *req.extras})
    if bad: sys.exit('\n'.join(bad))
    return found


def link(
    dists:list, # Distributions
    site:Path # Folder of packages of the new environment
)->None:
    "Link what the distributions brought into the new environment"
    for dist in dists:
        tops = {f.parts[0] for f in dist.files or [] if f.parts[0] not in ('..', '__pycache__') and not f.parts[0].endswith('.pth')}
        for top in tops:
            source, dest = Path(dist.locate_file(top)).resolve(), site/top
            if source.exists() and not dest.exists(): dest.symlink_to(source)


def beside(
    wheel:Path, # The wheel
    extra:str, # Its extra, '' for none
    env:Path # Folder of the environment, which is made
)->int: # How many distributions it sees
    "Make the environment"
    with zipfile.ZipFile(wheel) as z:
        meta = Parser().parsestr(z.read(next(n for n in z.namelist() if n.endswith('.dist-info/METADATA'))).decode())
    dists = closure(meta.get_all('Requires-Dist'), {extra})
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(env)], check=True)
    [site] = env.glob('lib/python*/site-packages')
    link(dists.values(), site)
    pip = [sys.executable, '-m', 'pip', '--python', str(env/'bin'/'python'), 'install', '--quiet', '--no-deps', '--no-index', str(wheel)]
    subprocess.run(pip, check=True)
    return len(dists)


if __name__ == '__main__':
    wheel, extra, env = sys.argv[1:]
    print(f'{beside(Path(wheel), extra, Path(env))} packages that the wheel requires, with the extra {extra}')
