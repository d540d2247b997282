"The explorer in a real browser: headless Chromium on the page that Voila serves, and on a notebook in JupyterLab."
import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import LAUNCHER, environment, paths, start_file
from PIL import Image

sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason='there is no Chromium')]
SHOTS = os.environ.get('FOPROKD_SHOTS') # Folder for screenshots, to look at them


def free_port():
    "A port that nobody listens on"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def serve(argv, cwd, port, path=''):
    "Start a server, a file of ours or a module with arguments, and wait until it answers"
    env, log = environment(PYTHONPATH=paths()), Path(cwd)/'server.log'
    if argv[0] != '-m': server = start_file(argv[0], argv[1:], cwd, env, '/dev/null', log)
    else:
        with log.open('wb') as f: server = subprocess.Popen([sys.executable, *argv], cwd=cwd, env=env, stdout=f, stderr=f)
    for _ in range(240):
        if server.poll() is not None: break
        try: urllib.request.urlopen(f'http://127.0.0.1:{port}{path}', timeout=120).close(); return server
        except OSError: time.sleep(.5)
    server.kill()
    raise RuntimeError((Path(cwd)/'server.log').read_text()[-3000:])


@pytest.fixture(scope='module')
def browser():
    "Headless Chromium"
    with sync_api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu'])
        yield b
        b.close()


def shot(page, name):
    "A screenshot, if somebody wants to look at it"
    if SHOTS: page.screenshot(path=str(Path(SHOTS)/f'{name}.png'))


def pictures(page):
    "The pictures inside the view, as arrays"
    hrefs = page.eval_on_selector_all('svg[aria-label] image', 'els => els.map(e => e.getAttribute("href"))')
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(h.split(',')[1])))) for h in hrefs]


def changed(page, before, i=1):
    "Wait until picture `i` is another one, and return all"
    for _ in range(150):
        now = pictures(page)
        if len(now) == len(before) and (now[i].shape != before[i].shape or not np.array_equal(now[i], before[i])): return now
        page.wait_for_timeout(200)
    raise AssertionError('the picture did not change')


def slide(page, name, keys):
    "Press keys on the handle of a slider"
    row = page.locator('.widget-hslider', has=page.get_by_text(name, exact=True)).first
    handle = row.locator('.noUi-handle').first
    handle.focus()
    for k in keys: handle.press(k)


def check_explorer(page, name, tmp_path):
    "Move sliders, upload a good and a bad file"
    page.wait_for_selector('svg[aria-label] image', timeout=180_000)
    shot(page, f'{name}_start')
    start = pictures(page)
    assert len(start) == 5 and np.abs(start[0].astype(int) - start[1]).max() <= 1 # nothing is prompted yet
    slide(page, 'gain', ['Home'])
    removed = changed(page, start)
    assert np.array_equal(removed[0], start[0]) and removed[1].std((0, 1)).max() < 1 # only DC is left
    slide(page, 'gain', ['End'])
    louder = changed(page, removed)
    slide(page, 'prompt', ['PageUp'])
    changed(page, louder)
    assert re.search(r'gain=4\.0.*strength=', page.locator('pre', has_text='view = scene.view(').first.inner_text())
    shot(page, f'{name}_moved')
    good, bad = tmp_path/'mine.png', tmp_path/'bad.png'
    Image.fromarray((np.random.default_rng(0).random((50, 70, 3)) * 255).astype(np.uint8)).save(good)
    bad.write_bytes(b'<script>alert(1)</script>')
    before = pictures(page)
    for file in (bad, good):
        with page.expect_file_chooser() as chooser: page.get_by_role('button', name='own image').click()
        chooser.value.set_files(str(file))
        if file is bad: page.get_by_role('alert').filter(has_text='no image that can be read').wait_for(timeout=30_000); assert np.array_equal(pictures(page)[0], before[0])
    changed(page, before, 0)
    page.get_by_text('added as image').wait_for(timeout=30_000)
    direction = page.locator('.widget-dropdown', has=page.get_by_text('direction', exact=True)).locator('select').first
    assert direction.evaluate('e => e.selectedOptions.length && e.selectedOptions[0].text.trim()') == 'all'
    shot(page, f'{name}_upload')


@pytest.mark.long
def test_the_page_that_voila_serves(browser, tmp_path):
    port, cwd = free_port(), tmp_path/'served'
    cwd.mkdir()
    (tmp_path/'explore.py').write_text(LAUNCHER.format('study.shown', 'foprokd_explore', 'foprokd_explore'))
    server = serve([tmp_path/'explore.py', '--port', port, '--size', 64], cwd, port)
    try:
        listening = subprocess.run(['ss', '-ltn'], capture_output=True, text=True).stdout if shutil.which('ss') else ''
        assert not re.search(rf'(0\.0\.0\.0|\*|\[::\]):{port}\b', listening) # loopback only
        page = browser.new_page(viewport=dict(width=1500, height=700))
        errors = []
        page.on('pageerror', lambda e: errors.append(str(e)))
        page.goto(f'http://127.0.0.1:{port}/', timeout=180_000)
        check_explorer(page, 'voila', tmp_path)
        big = tmp_path/'big.png' # more than Jupyter's connection would take
        Image.fromarray((np.random.default_rng(0).random((2000, 2000, 3)) * 255).astype(np.uint8)).save(big, compress_level=0)
        assert big.stat().st_size > 11e6
        with page.expect_file_chooser() as chooser: page.get_by_role('button', name='own image').click()
        chooser.value.set_files(str(big))
        page.get_by_role('alert').filter(has_text='more than 7').wait_for(timeout=60_000)
        assert not errors, errors
        assert [p.name for p in cwd.iterdir()] == ['server.log'] # nothing was written
    finally: server.terminate(); server.wait(30)


@pytest.mark.long
def test_a_notebook_in_jupyterlab(browser, tmp_path):
    port, cwd = free_port(), tmp_path/'lab'
    cwd.mkdir()
    cell = dict(cell_type='code', id='a', metadata={}, execution_count=None, outputs=[], source='from foprokd.frequency.explorer_view import explorer_page\nexplorer_page(size=64)')
    nb = dict(cells=[cell], metadata=dict(kernelspec=dict(display_name='python3', language='python', name='python3')), nbformat=4, nbformat_minor=5)
    (cwd/'explorer.ipynb').write_text(json.dumps(nb))
    argv = ['-m', 'jupyterlab', '--no-browser', '--ip=127.0.0.1', f'--port={port}', '--IdentityProvider.token=', '--ServerApp.port_retries=0', '--allow-root']
    server = serve(argv, cwd, port, '/api')
    try:
        page = browser.new_page(viewport=dict(width=1600, height=1000))
        page.goto(f'http://127.0.0.1:{port}/lab/tree/explorer.ipynb', timeout=180_000)
        page.locator('.jp-Notebook .jp-Cell').first.wait_for(timeout=180_000)
        page.get_by_text('| Idle').wait_for(timeout=180_000) # a cell that is run before the kernel is there is forgotten
        page.locator('.jp-Notebook .cm-content').first.click()
        page.keyboard.press('Shift+Enter')
        check_explorer(page, 'lab', tmp_path)
    finally: server.terminate(); server.wait(30)
