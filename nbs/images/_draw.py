"""Draws what the site and the README show of the whole: the idea (light and dark), the figure of the claims, the social card and the favicon.

    python nbs/images/_draw.py [FOLDER]

The image is one of the synthetic demo set. The prompt is of the generator's form, an even log gain on its polar basis, but drawn by hand:
nothing there was trained. The figure of the claims is drawn from the rows of results/. `tests/test_site.py` compares the committed files with what this file draws."""
import base64
import io
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from foprokd.measure.draws import compare_draws, paired_draws
from foprokd.measure.rows import unpack_ints
from foprokd.prompt import polar_basis
from foprokd.spectrum import amplitude_phase, from_amplitude_phase, full_plane
from foprokd.data.synth import synth_images

SIZE = 160
HERE = Path(__file__).resolve().parent


def gain():
    "An even log gain, (SIZE, SIZE//2+1), within +-1.5"
    cells = np.random.Generator(np.random.PCG64(4)).uniform(-.45, .25, (8, 8))
    cells[:, 5] = [1, .5, -.6, .9, 1, .8, -.2, .7]
    cells[:, 4] = [.2, .7, .4, -.3, .1, .8, .5, -.4]
    basis = polar_basis((SIZE, SIZE), 8, 8)
    g = 1.5 * (torch.tensor(cells, dtype=torch.float).flatten() @ basis).view(SIZE, -1)
    g[0, 0] = 0  # the mean brightness stays
    return g


def pictures():
    "What the idea shows, each (N, N, 3) uint8: image, amplitude, gain, prompted image"
    x = torch.from_numpy(synth_images([6] * 9, size=SIZE, seed=11)[8:]).permute(0, 3, 1, 2) / 255
    amplitude, phase = amplitude_phase(x)
    g = gain()
    y = from_amplitude_phase(amplitude * g.exp(), phase, (SIZE, SIZE))[0].clamp(0, 1)
    inner = slice(SIZE // 5, SIZE - SIZE // 5)  # up to .3 cycles per pixel
    logs = full_plane(amplitude[0].mean(0).clamp_min(1e-5).log10(), SIZE).numpy()[inner, inner]
    lo, hi = np.quantile(logs, [.02, .9995])
    colour = lambda m, name: (matplotlib.colormaps[name](m)[..., :3] * 255).round().astype(np.uint8)
    shots = [(o.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for o in (x[0], y)]
    field = full_plane(g, SIZE).numpy()[inner, inner]
    return {'image': shots[0], 'amplitude': colour((logs - lo) / (hi - lo), 'viridis'), 'prompt': colour(field / 3 + .5, 'RdBu_r'), 'prompted image': shots[1]}


def uri(picture, quality=82):
    "A picture as a data URI"
    out = io.BytesIO()
    Image.fromarray(picture).save(out, 'JPEG', quality=quality)
    return 'data:image/jpeg;base64,' + base64.b64encode(out.getvalue()).decode()


THEMES = {'light': dict(ink='#1f2937', soft='#52606d', line='#64748b', frozen='#e5edf7', cold='#2b5c9e', trained='#fdeedd', warm='#a84a06', paper='#ffffff'),
          'dark': dict(ink='#f0f3f6', soft='#b6c2cf', line='#9aa7b5', frozen='#1b2b40', cold='#8ab8f5', trained='#3a2613', warm='#f5a45c', paper='#0d1117')}
IDEA = 'The idea of FoPro-KD: a Fourier prompt reweights the amplitudes of an image, a frozen public teacher sees the prompted image, and a small student that sees the original image is distilled from it.'


def idea(theme):
    "The idea as SVG text"
    c, pics = THEMES[theme], pictures()
    res = []
    add = res.append

    def text(x, y, s, size=23, fill='ink', anchor='middle', weight='normal'):
        add(f'<text x="{x}" y="{y}" font-size="{size}" fill="{c[fill]}" text-anchor="{anchor}" font-weight="{weight}">{s}</text>')

    def arrow(path, colour='line', width=3, dash=''):
        add(f'<path d="{path}" fill="none" stroke="{c[colour]}" stroke-width="{width}" stroke-linejoin="round" marker-end="url(#{colour})"{dash}/>')

    def box(x, y, w, h, fill, line):
        add(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="12" fill="{c[fill]}" stroke="{c[line]}" stroke-width="2.5"/>')

    def thumb(x, y, name, w=126):
        add(f'<image x="{x}" y="{y}" width="{w}" height="{w}" href="{uri(pics[name])}"/>')
        add(f'<rect x="{x}" y="{y}" width="{w}" height="{w}" rx="2" fill="none" stroke="{c["line"]}" stroke-width="1.5"/>')
        text(x + w / 2, y - 13, name, 22)

    add('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 500" width="900" height="500" role="img" '
        'font-family="system-ui, -apple-system, \'Segoe UI\', Roboto, Helvetica, Arial, sans-serif">')
    add(f'<title>{IDEA}</title>')
    heads = ''.join(f'<marker id="{k}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="5.5" markerHeight="5.5" orient="auto-start-reverse">'
                    f'<path d="M0 0 10 5 0 10z" fill="{c[k]}"/></marker>' for k in ('line', 'warm'))
    add(f'<defs>{heads}</defs>')
    add(f'<rect width="900" height="500" rx="14" fill="{c["paper"]}"/>')  # readable also where page and system differ in theme
    box(346, 14, 150, 228, 'trained', 'warm')
    for x, name in ((12, 'image'), (184, 'amplitude'), (358, 'prompt'), (530, 'prompted image')): thumb(x, 62, name)
    text(334, 132, '&#215;', 30)
    text(421, 220, 'trained', 21, 'warm')
    arrow('M742 196 V266 H421 V252', 'warm', 3, ' stroke-dasharray="9 6"')
    text(580, 255, '1  explore', 25, 'warm', weight='600')
    arrow('M142 125 H178')
    arrow('M498 125 H525')
    arrow('M660 125 H702')
    box(708, 62, 180, 126, 'frozen', 'cold')
    text(798, 108, 'public', 25, weight='600')
    text(798, 138, 'teacher', 25, weight='600')
    text(798, 170, 'frozen', 21, 'cold')
    arrow('M75 196 V400 H702')
    box(708, 330, 180, 140, 'trained', 'warm')
    text(798, 374, 'small', 25, weight='600')
    text(798, 404, 'student', 25, weight='600')
    text(798, 436, 'trained', 21, 'warm')
    text(798, 460, 'for the tail', 21, 'warm')
    arrow('M798 196 V322', 'warm', 5)
    text(770, 308, '2  distil', 25, 'warm', 'end', '600')
    text(390, 386, 'the original image', 23)
    text(390, 430, 'the student alone is deployed', 21, 'soft')
    add('</svg>')
    return '\n'.join(res) + '\n'


def card():
    "The social card, 1200 by 630 pixels: the name, one sentence, and image, prompt and prompted image"
    pics, ink, soft = pictures(), '#f0f3f6', '#b6c2cf'
    with matplotlib.rc_context({'font.family': 'DejaVu Sans'}):
        fig = plt.figure(figsize=(12, 6.3), dpi=100, facecolor='#10263f')
        fig.text(.06, .80, 'foprokd', size=62, weight='bold', color=ink, va='center')
        fig.text(.06, .655, 'A frozen public model, prompted in the frequency domain,', size=25, color=ink, va='center')
        fig.text(.06, .58, 'distilled into a small student for long-tailed medical images', size=25, color=ink, va='center')
        for i, (name, sign) in enumerate((('image', '\u2192'), ('prompt', '\u2192'), ('prompted image', ''))):
            x = .06 + .245 * i
            ax = fig.add_axes((x, .13, .176, .176 * 1200 / 630))
            ax.imshow(pics[name], interpolation='bicubic', interpolation_stage='rgba')
            ax.set(xticks=[], yticks=[])
            for o in ax.spines.values(): o.set(color=soft, linewidth=1.5)
            fig.text(x + .088, .085, name, size=18, color=soft, ha='center', va='center')
            fig.text(x + .2105, .298, sign, size=40, color=ink, ha='center', va='center')
        fig.text(.785, .36, 'plain fastai\nany timm model\nresearch only', size=20, color=soft, va='top', linespacing=1.6)
        out = io.BytesIO()
        fig.savefig(out, format='png', facecolor=fig.get_facecolor())
        plt.close(fig)
    return Image.open(out).convert('RGB').quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.FLOYDSTEINBERG)


def read(name):
    "Rows of a file of results/"
    return [json.loads(o) for o in (HERE.parents[1]/'results'/name).read_text(encoding='utf-8').splitlines()]


def probes(teacher):
    "Of each draw: true classes, a probe's answers under the chosen prompt and under the identity, lesions"
    for r in read('skin_worth.jsonl'):
        if (r['set'], r['teacher']) == ('skin', teacher):
            yield [unpack_ints(o) for o in (r['truth'], r['preds'][r['chosen']], r['preds']['identity'], r['lesions'])]


def students(one, other):
    "Of each draw: true classes, the answers of two students, lesions"
    lesions = json.loads((HERE.parents[1]/'results'/'skin_draws_lesions.json').read_text(encoding='utf-8'))
    return paired_draws(read('skin_draws.jsonl'), one, other, {k: unpack_ints(v) for k, v in lesions.items()})


def claims():
    "Balanced accuracy of two teachers' probes and of the student, without and with the prompt that was chosen, on twelve draws"
    panels = {"Teacher's probe\nMobileNet": probes('mobilenet'), "Teacher's probe\nembedded teacher": probes('embedded'),
              'Student\nof the embedded teacher': students('FoPro-KD', 'the same, identity prompt')}
    with matplotlib.rc_context({'font.family': 'DejaVu Sans', 'font.size': 11}):
        fig, axs = plt.subplots(1, 3, figsize=(9, 3.6), dpi=100, sharey=True, layout='constrained')
        for ax, (title, draws), colour in zip(axs, panels.items(), ('#7a7a7a', '#1a5fb4', '#c64600')):
            draws = list(draws)
            mean = lambda y, z: np.mean([(z == c)[y == c].mean() for c in np.unique(y)])
            pairs = np.array([[mean(y, b), mean(y, a)] for y, a, b, _ in draws])
            ax.plot([0, 1], pairs.T, color=colour, alpha=.35, lw=1)
            ax.plot([0, 1], pairs.mean(0), 'o-', color=colour, lw=3.5, ms=8)
            told = compare_draws(draws)
            ax.set_title(title, size=11.5)
            ax.text(.5, .597, f"{100 * told['diff']:+.1f} points\n({100 * told['lower']:.1f} to {100 * told['upper']:.1f})", ha='center', va='top')
            ax.set(xticks=[0, 1], xlim=(-.3, 1.3), ylim=(.31, .60))
            ax.set_xticklabels(['no prompt', 'chosen prompt'])
            ax.spines[['top', 'right']].set_visible(False)
        axs[0].set_ylabel('balanced accuracy')
        for name, style in (('fine-tuned MobileNet', '--'), ('balanced softmax', ':')):
            at = np.mean([np.mean([(b == c)[y == c].mean() for c in np.unique(y)]) for y, _, b, _ in students('FoPro-KD', name)])
            axs[2].axhline(at, color='#444', ls=style, lw=1)
            axs[2].text(1.28, at - .004, name, size=9, ha='right', va='top', color='#222', bbox=dict(fc='white', ec='none', pad=.6, alpha=.8))
        out = io.BytesIO()
        fig.savefig(out, format='png', facecolor='white')
        plt.close(fig)
    return Image.open(out).convert('RGB').quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def favicon(size=64, k=8):
    "A ring of frequencies with an even pair of peaks, (size, size) pixels with an alpha channel; drawn k times larger and averaged"
    y, x = (np.mgrid[:size * k, :size * k] + .5) / (size * k / 2) - 1
    r, out = np.hypot(x, y), np.empty((size * k, size * k, 4))
    out[:] = [*(np.array([16, 38, 63]) / 255), 1]
    out[np.abs(r - .62) < .11, :3] = np.array([245, 164, 92]) / 255
    out[np.minimum(np.hypot(x - .44, y + .44), np.hypot(x + .44, y - .44)) < .26, :3] = 1
    out[r < .16, :3] = 1
    corner = np.hypot(*(np.maximum(np.abs(o) - .72, 0) for o in (x, y)))
    out[corner > .28, 3] = 0
    out = out.reshape(size, k, size, k, 4)
    alpha = out[..., 3:].mean((1, 3))
    colour = (out[..., :3] * out[..., 3:]).mean((1, 3)) / np.maximum(alpha, 1e-9)
    return Image.fromarray((np.concatenate([colour, alpha], -1).clip(0, 1) * 255).round().astype(np.uint8))


def draw(folder):
    "Write all pictures into `folder`"
    folder = Path(folder)
    for theme in THEMES: (folder/f'idea-{theme}.svg').write_text(idea(theme), encoding='utf-8')
    claims().save(folder/'claims.png', optimize=True)
    card().save(folder/'card.png', optimize=True)
    favicon().save(folder/'favicon.png', optimize=True)


if __name__ == '__main__': draw(sys.argv[1] if len(sys.argv) > 1 else HERE)
