"The workflows as data: what they run exists, who may publish, and that only a tag that fits is released."
import re
import shutil
import subprocess
import sys

import pytest
import yaml

FILES = ['settings.ini', 'release.py', 'CITATION.cff', 'CHANGELOG.md', 'foprokd/__init__.py']


@pytest.fixture(scope='module')
def flows(root):
    "Name -> workflow; YAML 1.1 reads the key `on` as True"
    flows = {p.stem: yaml.safe_load(p.read_text(encoding='utf-8')) for p in (root/'.github'/'workflows').glob('*.y*ml')}
    return {k: {('on' if n is True else n): v for n, v in o.items()} for k, o in flows.items()}


def texts(root): return {p.name: p.read_text(encoding='utf-8') for p in (root/'.github'/'workflows').glob('*.y*ml')}


def loose_actions(text):
    "Lines of a workflow that name an action otherwise than by 40 hexadecimal digits and, in a comment, its version; a local one needs none"
    lines = re.findall(r'^[ -]*uses:.*$', text, re.M)
    return [o.strip() for o in lines if not re.fullmatch(r"[ -]*uses: (\./\S+|[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+(\.\d+)*)", o)]


def test_actions_are_named_by_commit(root):
    "A tag can be moved to other code, a commit cannot"
    assert {name: loose_actions(text) for name, text in texts(root).items() if loose_actions(text)} == {}
    seen = {}
    for action, version in re.findall(r'uses: ([\w./-]+@\w+) # (\S+)', '\n'.join(texts(root).values())):
        assert seen.setdefault(action, version) == version, f'{action} has two versions'
    repositories = {'/'.join(o.split('@')[0].split('/')[:2]) for o in seen}
    assert len({('/'.join(o.split('@')[0].split('/')[:2]), o.split('@')[1]) for o in seen}) == len(repositories), 'an action is used at two commits'


@pytest.mark.parametrize('line', ['uses: actions/checkout@v5', '- uses: actions/checkout@' + 'a' * 40, 'uses: a/b@' + 'a' * 39 + ' # v1', 'uses: a/b@main # v1.0', 'uses: a/b',
                                  'uses: a/b@' + 'a' * 40 + ' # latest', "uses: 'a/b@v1'"])
def test_an_action_by_tag_is_seen(line): assert loose_actions(f'    steps:\n      {line}\n') == [line]


def runs(job): return '\n'.join(s.get('run', '') for s in job['steps'])


def test_workflows_read_only_unless_they_publish(flows):
    assert set(flows) == {'test', 'docs', 'release', 'nightly', 'codeql', 'dependencies'}
    for name, flow in flows.items():
        assert flow['permissions'] == {'contents': 'read'}, name
        for key, job in flow['jobs'].items():
            checks_out = 'checkout' in str(job['steps'])
            assert job['timeout-minutes'] <= 90 if checks_out else True, (name, key)
            if checks_out: assert {'persist-credentials': False} in [s.get('with') for s in job['steps']], f'{name}/{key} leaves its token to the code'
            writes, code = {k for k, v in job.get('permissions', {}).items() if v == 'write'}, runs(job)
            if writes == {'security-events'}: assert name == 'codeql'  # may write findings, and nothing else
            elif writes and (name, key) in (('release', 'attest'), ('release', 'attach')): assert not checks_out
            elif writes: assert job['environment']['name'] in ('pypi', 'testpypi', 'github-pages') and not checks_out
            if code.strip() and writes: assert re.fullmatch(r'\s*gh release create [^\n;&|]*\s*', code), f'{name}/{key} runs code and may publish'


def test_what_workflows_run_is_there(root, flows):
    text = '\n'.join(runs(j) for f in flows.values() for j in f['jobs'].values())
    for word in re.findall(r'(?:bash|python) ([\w./]+\.(?:sh|py)|\.ci/run)', text): assert (root/word).is_file(), word
    assert 'make test-all' in runs(flows['nightly']['jobs']['all']) and set(flows['nightly']['on']) == {'schedule', 'workflow_dispatch'}
    for target in re.findall(r'(?m)^ *make ([a-z-]+)', text): assert re.search(rf'(?m)^{target}:', (root/'Makefile').read_text(encoding='utf-8')), target
    assert 'bash .ci/run' in text and 'bash .github/try_wheel.sh' in text and 'make docs' in text
    script = (root/'.github'/'try_wheel.sh').read_text(encoding='utf-8')
    assert subprocess.run(['bash', '-n', str(root/'.github'/'try_wheel.sh')]).returncode == 0
    for command in ('foprokd_run', 'foprokd_data', 'foprokd_table', 'foprokd_plot', 'foprokd_predict'): assert f'"$bin/{command}"' in script


def test_the_wheel_is_tried_on_every_python_it_names(flows, settings):
    for name, job in (('test', 'newest'), ('release', 'try')):
        job = flows[name]['jobs'][job]
        assert job['strategy']['matrix']['python'] == settings['pythons'].split() and '[deploy]' in runs(job)


def test_only_a_tag_that_was_checked_and_tried_goes_to_pypi(flows):
    flow = flows['release']
    jobs, pypi, test = flow['jobs'], flow['jobs']['pypi'], flow['jobs']['testpypi']
    assert set(flow['on']) == {'push', 'workflow_dispatch'} and flow['on']['push'] == {'tags': ['v*']}
    assert pypi['if'] == "github.event_name == 'push'" and test['if'] == "github.event_name == 'workflow_dispatch'"
    assert 'python release.py "$GITHUB_REF_NAME"' in runs(jobs['build']) and 'twine check --strict' in runs(jobs['build'])
    for job, name in ((pypi, 'pypi'), (test, 'testpypi')):
        assert set(job['needs']) == {'build', 'try'} and job['environment']['name'] == name
        assert job['permissions'] == {'id-token': 'write'}, 'trusted publishing, and nothing else'
        assert [s['uses'].split('@')[0] for s in job['steps']] == ['actions/download-artifact', 'pypa/gh-action-pypi-publish']
        assert 'password' not in str(job)
    assert test['steps'][-1]['with']['repository-url'] == 'https://test.pypi.org/legacy/' and 'with' not in pypi['steps'][-1]


def test_what_is_released_is_attested_and_lists_its_parts(flows):
    "CycloneDX list of the wheel's environment, provenance of the very files that go to PyPI, all of it in a draft of the release"
    jobs = flows['release']['jobs']
    assert jobs['sbom']['needs'] == 'build' and 'cyclonedx-py environment' in runs(jobs['sbom']) and 'permissions' not in jobs['sbom']
    attest, attach = jobs['attest'], jobs['attach']
    assert set(attest['needs']) == {'build', 'try', 'sbom'} and attach['needs'] == 'attest'
    assert attest['permissions'] == {'id-token': 'write', 'attestations': 'write'} and attach['permissions'] == {'contents': 'write'}
    used = {s['uses'].split('@')[0]: s.get('with', {}) for s in attest['steps']}
    assert used['actions/attest-build-provenance'] == {'subject-path': 'dist/*'}
    assert used['actions/attest-sbom'] == {'subject-path': 'dist/*', 'sbom-path': 'foprokd.cdx.json'}
    assert 'foprokd.cdx.json' in runs(attach) and 'dist/*' in runs(attach) and '--draft' in runs(attach) and '--verify-tag' in runs(attach)
    assert all(j['if'] == "github.event_name == 'push'" for j in (attest, attach))


def test_what_runs_by_itself(flows):
    assert 'pull_request' in flows['dependencies']['on'] and 'dependency-review-action' in str(flows['dependencies'])
    assert set(flows['codeql']['on']) == {'push', 'pull_request', 'schedule'}
    assert set(flows['codeql']['jobs']['analyze']['strategy']['matrix']['language']) == {'python', 'actions'}
    nightly = '\n'.join(runs(j) for j in flows['nightly']['jobs'].values())
    for words in ('make test-all', 'make fuzz', 'make test-oldest', 'pretend_gpu.sh all', 'pip_audit'): assert words in nightly


def test_the_nightly_run_prints_the_coverage(root):
    make = (root/'Makefile').read_text(encoding='utf-8')
    assert re.search(r'(?m)^test-all: COVERED := 1$', make) and 'coverage run tools/nb_coverage.py' in make and 'bin/coverage report' in make
    assert re.search(r'FUZZ \?= --n 100000 ', make)


@pytest.fixture
def copy(root, tmp_path):
    for f in FILES:
        (tmp_path/f).parent.mkdir(exist_ok=True)
        shutil.copy(root/f, tmp_path/f)
    return tmp_path


def check(folder, tag): return subprocess.run([sys.executable, folder/'release.py', tag], capture_output=True, text=True, timeout=60)


def test_the_tag_of_this_version_may_be_released(copy, settings):
    res = check(copy, f"v{settings['version']}")
    assert res.returncode == 0, res.stderr


@pytest.mark.parametrize('file,old,new,said', [
    ('settings.ini', 'version = ', 'version = 9.', 'The tag'), ('foprokd/__init__.py', '= "', '= "9.', '__init__.py has another version'),
    ('CITATION.cff', '\nversion: ', '\nversion: 9.', 'CITATION.cff has another version'), ('CITATION.cff', 'released: 2', 'released: 1', 'was not released on'),
    ('CHANGELOG.md', '## [', '## 9.[', 'has no line'), ('CHANGELOG.md', '\n[', '\n[9.', 'has no link')])
def test_a_tag_that_does_not_fit_is_refused(copy, settings, file, old, new, said):
    text = (copy/file).read_text(encoding='utf-8')
    assert old in text
    (copy/file).write_text(text.replace(old, new), encoding='utf-8')
    res = check(copy, f"v{settings['version']}")
    assert res.returncode == 1 and said in res.stderr, res.stderr


def test_changelog_is_in_form(root, settings):
    "Keep a Changelog: newest first, known groups, a link for every version"
    text = (root/'CHANGELOG.md').read_text(encoding='utf-8')
    heads = re.findall(r'^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$', text, re.M)
    assert heads[0] == ('Unreleased', '') and len(re.findall('^## ', text, re.M)) == len(heads) and all(d for _, d in heads[1:])
    numbers = [tuple(map(int, v.split('.'))) for v, _ in heads[1:]]
    assert numbers == sorted(set(numbers), reverse=True) and settings['version'] == heads[1][0]
    assert set(re.findall(r'^### (.+)$', text, re.M)) <= {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security', 'Known limits'}
    for v, _ in heads: assert re.search(rf'^\[{re.escape(v)}\]: {re.escape(settings["git_url"])}/', text, re.M), v
