"Quantising in a process of its own: nothing is printed, nothing is left behind."
import textwrap

from conftest import python


def test_quantising_is_quiet(tmp_path):
    "Neither the quantiser's prints and log lines nor the runtime's warnings reach the user, and no file stays"
    code = '''
        import os, tempfile, numpy as np, timm
        from pathlib import Path
        from foprokd.deploy.notes import Notes
        from foprokd.deploy.graph import save_graph, set_notes, student_graph
        from foprokd.deploy.quantize import quantization_report, quantize_student
        tempfile.tempdir = os.environ['TMPDIR'] = str(Path('tmp').resolve()); os.mkdir('tmp')
        policy = dict(method='squish', pad_mode='zeros', input_size=[32, 32], model_size=[32, 32], resample=None, mean=[.5] * 3, std=[.2] * 3)
        model = student_graph(timm.create_model('test_resnet', num_classes=3), policy, [1, 1, 1])
        set_notes(model, Notes(classes=list('abc'), input_size=[32, 32], precision='fp32', counts=[9, 3, 1]))
        save_graph(model, 'student.onnx')
        x = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
        print('begin', flush=True)
        os.dup2(1, 2) # what C++ writes counts, too
        for method in ('minmax', 'entropy', 'percentile'): quantize_student('student.onnx', x, method=method)
        quantization_report('student.onnx', 'student.int8.onnx', x, np.arange(9) % 3, n_boot=10)
        print('end', sorted(os.listdir('.')), os.listdir('tmp'))
    '''
    out = python(textwrap.dedent(code), tmp_path)
    assert out.stdout.split('begin\n')[-1] == "end ['script.py', 'student.int8.onnx', 'student.onnx', 'tmp'] []\n"
