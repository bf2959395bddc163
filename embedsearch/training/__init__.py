"""Training encoders, and what stands around that: detectors, segmenters, readers, measuring.

Each command is a folder: ``finetune``, ``distill``, ``quantize``, ``evaluate``, and ``detect``,
``segment`` and ``ocr`` for ``finetune --task``. What they share lies below them, in this order:
``losses``, ``teachers`` who are asked, the ``loop`` of steps and checkpoints, ``looks`` at photos,
``distributed`` runs, ``networks`` built from specs and written to folders, ``augment`` and
``data``. A run is described by a ``recipe``. ``mini`` made the first encoder in the box.
"""
