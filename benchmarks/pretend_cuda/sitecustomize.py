"Python reads this when it starts with this folder on its path: under the pretend device every process gets it, those of tests and launchers too"
import os

if 'libshim.so' in os.environ.get('LD_PRELOAD', ''):
    import fakecuda  # noqa: F401
    import fakenccl  # noqa: F401
