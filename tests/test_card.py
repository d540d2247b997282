"A student and its card go to a hub, whole and as one commit, and to nobody else: the hub is a stub on this machine."
import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from conftest import python
from foprokd.deploy.card import model_card
from foprokd.deploy.notes import Notes

GUARD = '''import json, socket, sys
seen, connect, lookup = set(), socket.socket.connect, socket.getaddrinfo
def guarded(sock, address):
    seen.add(address[0] if isinstance(address, tuple) else 'local')
    if isinstance(address, tuple) and address[0] != '127.0.0.1': raise OSError(f'not this machine: {address}')
    return connect(sock, address)
def named(host, *a, **k):
    seen.add(host.decode() if isinstance(host, bytes) else host)
    if host not in ('127.0.0.1', b'127.0.0.1'): raise OSError(f'not this machine: {host}')
    return lookup(host, *a, **k)
socket.socket.connect, socket.getaddrinfo = guarded, named
from huggingface_hub import HfApi
api = HfApi(endpoint=sys_endpoint, token='hf_test')
try:
    api.create_repo('me/student', private=True, exist_ok=True)
    wanted = ['README.md', '*.onnx', '*.safetensors', '*.json']
    res = api.upload_folder(repo_id='me/student', folder_path=sys_folder, allow_patterns=wanted).commit_url
except Exception as e: res = [type(e).__name__, str(e)]
print('RESULT' + json.dumps(dict(res=res, seen=sorted(map(str, seen)))))
'''


class Hub(BaseHTTPRequestHandler):
    "What HfApi.create_repo and create_commit ask of a hub, in memory"
    def log_message(self, *args): pass

    def _take(self): return self.rfile.read(int(self.headers.get('Content-Length') or 0))

    def _answer(self, body, code=200):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        s, path = self.server, self.path.split('?')[0]
        body = self._take()
        s.asked.append(('POST', path, self.headers.get('Authorization')))
        if path in s.refuse: return self._answer({'error': 'no'}, s.refuse[path])
        if path == '/api/repos/create':
            s.created.append(json.loads(body))
            self._answer({'url': f'{s.url}/me/student'})
        elif path == '/api/validate-yaml': self._answer({'errors': [], 'warnings': []})
        elif path == '/api/models/me/student/preupload/main':
            self._answer({'files': [{'path': o['path'], 'shouldIgnore': False, 'oid': None,
                'uploadMode': 'lfs' if o['path'].endswith(('.onnx', '.safetensors')) else 'regular'} for o in json.loads(body)['files']]})
        elif path == '/me/student.git/info/lfs/objects/batch':
            self._answer({'transfer': 'basic', 'objects': [{'oid': o['oid'], 'size': o['size'], 'actions': {
                'upload': {'href': f'{s.url}/lfs/{o["oid"]}'}}} for o in json.loads(body)['objects']]})
        elif path == '/api/models/me/student/commit/main':
            s.commits.append([json.loads(o) for o in body.splitlines()])
            self._answer({'commitUrl': f'{s.url}/me/student/commit/1', 'commitOid': '1' * 40})
        else: self._answer({'error': f'the stub has no {path}'}, 404)

    def do_PUT(self):
        self.server.asked.append(('PUT', self.path, self.headers.get('Authorization')))
        self.server.blobs[self.path.rsplit('/', 1)[-1]] = self._take()
        self._answer({})

    def do_GET(self):
        self.server.asked.append(('GET', self.path, self.headers.get('Authorization')))
        self._answer({'error': 'no'}, 404)


@pytest.fixture
def hub():
    "A hub on a free port of the loopback, empty"
    server = ThreadingHTTPServer(('127.0.0.1', 0), Hub)
    server.url = f'http://127.0.0.1:{server.server_port}'
    server.asked, server.created, server.commits, server.blobs, server.refuse = [], [], [], {}, {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    "A student's files, and one that must stay"
    res = tmp_path/'student'
    res.mkdir()
    (res/'student.onnx').write_bytes(bytes(range(256)) * 5000)
    (res/'student.safetensors').write_bytes(b'weights' * 1000)
    (res/'student.json').write_text('{"classes": ["a", "b"]}')
    (res/'patients.csv').write_text('private')
    model_card(Notes(classes=['a', 'b']), file=res/'student.onnx').save(res/'README.md')
    return res


def push(folder, endpoint, tmp_path, **env):
    "Outcome of the page's line in a process that can reach this machine only, and whom it tried to reach"
    env = {'HF_HUB_OFFLINE': '0', 'HF_HUB_DISABLE_XET': '1', 'HF_HUB_DISABLE_TELEMETRY': '1', 'HF_HOME': str(tmp_path/'hf'), **env}
    run = python(f'sys_folder, sys_endpoint = {str(folder)!r}, {endpoint!r}\n' + GUARD, tmp_path, fresh=True, **env)
    assert 'RESULT' in run.stdout, run.stderr
    return json.loads(run.stdout.split('RESULT')[1]), run


def test_every_byte_arrives_in_one_commit_and_nobody_else_is_asked(hub, folder, tmp_path):
    out, _ = push(folder, hub.url, tmp_path)
    assert out['res'] == f'{hub.url}/me/student/commit/1'
    assert [(o['name'], o['organization'], o.get('visibility', o.get('private'))) for o in hub.created] in (
        [('student', 'me', 'private')], [('student', 'me', True)])
    assert len(hub.commits) == 1
    files = {o['value']['path']: o['value'] for o in hub.commits[0] if o['key'] != 'header'}
    assert set(files) == {'README.md', 'student.json', 'student.onnx', 'student.safetensors'}
    for name, o in files.items():
        got = base64.b64decode(o['content']) if 'content' in o else hub.blobs[o['oid']]
        assert got == (folder/name).read_bytes(), name
        assert 'content' in o or o['oid'] == hashlib.sha256(got).hexdigest()
    assert out['seen'] == ['127.0.0.1']
    assert {a for m, p, a in hub.asked if m == 'POST'} == {'Bearer hf_test'}
    assert {a for m, p, a in hub.asked if m == 'PUT'} == {None}, 'the storage must not see the token'


def test_the_guard_would_see_another_host(folder, tmp_path):
    out, _ = push(folder, 'http://hub.invalid', tmp_path)
    assert out['seen'] == ['hub.invalid'] and 'not this machine' in out['res'][1]


def test_the_token_is_told_to_nobody(hub, folder, tmp_path):
    hub.refuse['/api/models/me/student/commit/main'] = 403
    out, run = push(folder, hub.url, tmp_path)
    assert '403' in out['res'][1] and not hub.commits and 'hf_test' not in run.stdout + run.stderr
