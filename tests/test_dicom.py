"""DICOM from a folder to a report, with the commands as a user types them, and that nothing of it tells who the patients are.

Every file that is written, and all that is said, is searched for the identifiers that were planted; only the reports of `--dicom-sr` name the patient."""
import csv
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import environment, paths, python, run_file

pydicom = pytest.importorskip('pydicom')
highdicom = pytest.importorskip('highdicom')
PLANTED = {'PatientID': 'XPATIENTIDX', 'PatientName': 'XNAMEX^XJANEX', 'PatientBirthDate': '19010203', 'StudyDate': '19020304', 'AccessionNumber': 'XACCESSIONX',
           'StudyInstanceUID': '1.2.840.99999.1', 'SOPInstanceUID': '1.2.840.99999.2', 'SeriesInstanceUID': '1.2.840.99999.3', 'TrackingID': 'XLESIONX', 'InstitutionName': 'XCLINICX'}
MARKS = ('XPATIENTIDX', 'XNAMEX', 'XJANEX', '19010203', '19020304', 'XACCESSIONX', '1.2.840.99999', 'XLESIONX', 'XCLINICX')


def scan(file, colour, patient, rng):
    "A secondary capture of 32 x 32 pixels with every identifier planted"
    a = np.clip(rng.normal(128, 40, (32, 32, 3)) + np.array(colour), 0, 255).astype(np.uint8)
    im = highdicom.sc.SCImage(a, 'RGB', bits_allocated=8, coordinate_system='PATIENT', study_instance_uid=f"{PLANTED['StudyInstanceUID']}.{patient}",
                              series_instance_uid=f"{PLANTED['SeriesInstanceUID']}.{patient}", series_number=1, sop_instance_uid=f"{PLANTED['SOPInstanceUID']}.{patient}.{file.stem}",
                              instance_number=1, manufacturer='foprokd', patient_id=f"{PLANTED['PatientID']}{patient}", patient_name=PLANTED['PatientName'],
                              patient_birth_date=PLANTED['PatientBirthDate'], study_date=PLANTED['StudyDate'], accession_number=PLANTED['AccessionNumber'], patient_orientation=('L', 'P'))
    im.TrackingID, im.TrackingUID, im.InstitutionName = f"{PLANTED['TrackingID']}{patient}", f"1.2.840.99999.4.{patient}", PLANTED['InstitutionName']
    file.parent.mkdir(parents=True, exist_ok=True)
    im.save_as(file)


@pytest.fixture(scope='module')
def scans(tmp_path_factory):
    "Two classes of 20 images, two of a patient; one file is broken inside its header, and one at its end"
    folder, rng = tmp_path_factory.mktemp('dicom')/'scans', np.random.default_rng(0)
    for c, (name, colour) in enumerate((('blue', (-60, 0, 60)), ('red', (60, 0, -60)))):
        for i in range(20): scan(folder/name/f'{i}.dcm', colour, 100 * c + i // 2, rng)
    good = (folder/'red'/'0.dcm').read_bytes()
    (folder/'red'/'short.dcm').write_bytes(good[:-100])
    at = good.index(b'XNAMEX')
    (folder/'red'/'torn.dcm').write_bytes(good[:at - 4] + b'\xff\x7f\xff\x7f' + good[at:])
    return folder


def told(folder, *said):
    "Files below a folder, and texts, that hold a planted identifier"
    marks = [m.encode() for m in MARKS] + [m.encode('utf-16-le') for m in MARKS]
    bad = [(str(f), m) for f in folder.rglob('*') if f.is_file() for m in marks if m in f.read_bytes() or m in str(f).encode()]
    return bad + [(o[:200], m) for o in said for m in MARKS if m in o]


def test_what_is_planted_is_found(scans, tmp_path):
    assert len({m for _, m in told(scans)}) == len(MARKS)
    (tmp_path/'a.txt').write_text('of XPATIENTIDX7')
    assert len(told(tmp_path, 'XNAMEX')) == 2 and told(tmp_path/'none', 'nothing') == []




def call(name, cwd, *args):
    "A command in a process that logs and warns as much as it can; its code, stdout and stderr"
    file = cwd/f'{name}.py'
    module = 'foprokd.deploy.predict' if name == 'foprokd_predict' else 'foprokd.study.entry'
    file.write_text(f"import logging, warnings\nlogging.basicConfig(level=0)\nwarnings.simplefilter('always')\nfrom {module} import {name}\nif __name__ == '__main__': {name}()\n")
    env = environment(PYTHONPATH=paths(), FOPROKD_CACHE=str(cwd/'facts'), XDG_CONFIG_HOME=str(cwd/'config'))
    res = run_file(file, args, cwd, env, fresh=False)
    return res.returncode, res.stdout, res.stderr


def test_nothing_that_identifies_is_written_or_said(scans, tmp_path):
    "foprokd_data, a small run, its ONNX student, foprokd_predict and its reports"
    work = tmp_path/'work'
    work.mkdir()
    refused = call('foprokd_run', work, '--data', scans, '--method', 'ce', '--student', 'test_resnet', '--distill', 1, '--out', work/'no')
    assert refused[0] and 'truncated 1' in refused[2] and 'short.dcm' in refused[2] and 'Traceback' not in refused[2], refused[2][-2000:]
    seen = call('foprokd_data', work, '--data', scans, '--bad', 'drop', '--out', work/'data')
    assert seen[0] == 0 and (work/'data'/'data.html').is_file(), seen[2][-2000:]
    small = '--method', 'ce', '--student', 'test_resnet', '--distill', 1, '--size', 32, '--bs', 8, '--seeds', 0
    ran = call('foprokd_run', work, '--data', scans, '--bad', 'drop', *small, '--out', work/'runs')
    assert ran[0] == 0 and (work/'runs'/'results.jsonl').is_file(), ran[2][-3000:]
    code = ("from fastai.vision.all import set_seed\nfrom foprokd.data.labels import read_labels\nfrom foprokd.data.loaders import image_dls\nfrom foprokd.data.splits import split_data\n"
            f"from foprokd.learner import fopro_learner\nset_seed(0)\ndf = split_data(read_labels({str(scans)!r}, bad='drop', workers=0), seed=0)\n"
            "assert df.group.nunique() == 20 and df.groupby('group').split.nunique().max() == 1\n"
            "learn = fopro_learner(image_dls(df, size=32, bs=8, seed=0, cache_dir='copies'), 'test_resnet')\n"
            "with learn.no_bar(), learn.no_logging(): learn.fit_fopro(explore=0, distill=1)\nlearn.export_student('student.onnx')\n")
    made = python(code, work, FOPROKD_CACHE=str(work/'facts'), XDG_CONFIG_HOME=str(work/'config'))
    assert made.returncode == 0, made.stderr[-3000:]
    reports = tmp_path/'reports'
    answered = call('foprokd_predict', work, work/'student.onnx', scans, '--csv', work/'out.csv', '--json', work/'out.jsonl', '--dicom-sr', reports)
    assert answered[0] == 1 and '40 of 42 images predicted, 2 could not be read' in answered[2], answered[2][-2000:]
    assert told(work, *refused[1:], *seen[1:], *ran[1:], made.stdout, made.stderr, *answered[1:]) == []
    assert len(list(reports.iterdir())) == 40 and not [f for f in reports.iterdir() if any(m in f.name for m in MARKS)] and told(reports), 'a report names the patient, its file does not'
    key = work/'config'/'foprokd'/'dicom.key'
    assert key.is_file() and all(key.read_text() not in f.read_text(errors='ignore') for f in work.rglob('*') if f.is_file() and f != key)


def test_the_reports_hold_what_the_table_holds(scans, tmp_path):
    "One for each image, read by highdicom"
    from fastai.vision.all import set_seed
    from foprokd.data.synth import demo_dls
    from foprokd.learner import fopro_learner
    set_seed(0)
    learn = fopro_learner(demo_dls(n_max=24, ratio=4, size=32, bs=8), 'test_resnet')
    learn.export_student(tmp_path/'student.onnx')
    code, _, said = call('foprokd_predict', tmp_path, tmp_path/'student.onnx', *[scans/'red'/f'{i}.dcm' for i in range(3)], '--csv', 'out.csv', '--dicom-sr', tmp_path/'sr')
    assert code == 0, said
    with open(tmp_path/'out.csv', newline='') as f: rows = list(csv.DictReader(f))
    assert sorted(os.listdir(tmp_path/'sr')) == ['0.dcm.sr.dcm', '1.dcm.sr.dcm', '2.dcm.sr.dcm']
    for r in rows:
        report = highdicom.sr.srread(tmp_path/'sr'/f"{Path(r['file']).name}.sr.dcm")
        [group] = report.content.get_image_measurement_groups()
        assert {m.name.meaning.removeprefix('Probability of '): m.value for m in group.get_measurements()} == {k[2:]: float(v) for k, v in r.items() if k.startswith('p_')}
        assert [o.value.meaning for o in group.get_qualitative_evaluations()] == [r['class']]
        assert report.StudyInstanceUID == pydicom.dcmread(r['file']).StudyInstanceUID
    code, _, said = call('foprokd_predict', tmp_path, tmp_path/'student.onnx', 'out.csv', '--csv', 'o.csv', '--dicom-sr', tmp_path/'sr')
    assert code == 2 and "'out.csv' is no DICOM file, and a report (--dicom-sr) is for one" in said


def test_without_the_extra_dicom_has_a_sentence_and_the_rest_is_read(scans, tmp_path):
    "pydicom and highdicom cannot be imported, as in the clinic's environment of three packages"
    code = ("import sys\nsys.modules.update(pydicom=None, highdicom=None)\nfrom PIL import Image\nfrom foprokd.data.scan import inspect_file\nfrom foprokd.data.images import open_rgb\n"
            f"print(inspect_file({str(scans/'red'/'0.dcm')!r})['detail'])\nImage.new('RGB', (4, 4)).save('a.png')\nprint(inspect_file('a.png')['problem'] or 'fine', open_rgb('a.png').size)\n"
            f"try: open_rgb({str(scans/'red'/'0.dcm')!r})\nexcept ValueError as e: print(e)\n")
    res = python(code, tmp_path)
    assert res.returncode == 0, res.stderr[-2000:]
    detail, fine, said = res.stdout.splitlines()
    assert detail == "This is a DICOM file, and pydicom is not installed: pip install 'foprokd[dicom]'." and said.endswith(detail) and '0.dcm' in said and fine == 'fine (4, 4)'


def test_prediction_imports_no_dicom_before_it_meets_one(tmp_path):
    res = python("import sys\nimport foprokd.deploy.predict, foprokd.data.dicom\nprint(sorted({'pydicom', 'highdicom'} & set(sys.modules)))", tmp_path, fresh=True)
    assert res.returncode == 0 and res.stdout.strip() == '[]', res.stdout + res.stderr


def test_the_same_key_gives_the_same_groups(scans, tmp_path):
    "In two processes, by the variable or the file; another key gives others"
    code = f"from pathlib import Path\nfrom foprokd.data.pseudonyms import header_groups\nprint(header_groups(sorted(map(str, Path({str(scans/'red')!r}).glob('[0-9].dcm')))))"
    def groups(**env): return python(code, tmp_path, XDG_CONFIG_HOME=str(tmp_path/'config'), **env).stdout
    a, b = groups(), groups()
    assert a == b and len(set(eval(a))) == 5
    assert groups(FOPROKD_DICOM_KEY='a secret of my own') == groups(FOPROKD_DICOM_KEY='a secret of my own') != a
