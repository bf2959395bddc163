# `make test` sets everything up; see `make help`. A virtual environment that is there is reused.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs mini yolox raspp clean

help:  ## list what there is to make
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 8

demo: $(READY)  ## make a small folder of pictures, index it and search it
	$(BIN)/embedsearch demo

test: lint  ## lint, then run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)  ## ruff, the import layers, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(READY)  ## run the benchmarks; DATA=FOLDER holds captions/captions.jsonl and its photos
	$(BIN)/python benchmarks/cold_query.py
	$(BIN)/python benchmarks/throughput.py $(if $(DATA),--captions $(DATA)/captions/captions.jsonl)
	$(BIN)/python benchmarks/rescan.py
	$(BIN)/python benchmarks/encoder_cost.py
	$(if $(DATA),$(BIN)/python benchmarks/duplicates.py $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/clusters.py $(DATA))
	$(if $(DATA),$(BIN)/python benchmarks/maps.py $(DATA))

docs: $(READY)  ## write docs/commands.md, tables and, where Chromium is, screenshots anew
	$(BIN)/python docs/generate_commands.py
	$(BIN)/python docs/generate_mixtures.py
	$(BIN)/python docs/generate_screenshots.py

# The encoder in the box anew. First the second one: three teachers, a student of theirs twice, four to
# five hours on two cores. Then two teachers whose whole network is trained, and the third, a student of
# four: ten minutes with a GPU, and days without. Then the mean of its weights and those of one of them,
# taught by the other and the third, the mean of all three, its head and text tower once more, and 8 bits:
# an hour and a half on two cores.
# What is broken off goes on where it was.
# Where the whole network is trained, batches of 512 pass in PIECES, which takes 7 GB; in one piece 24 are
# not enough. PIECES=1, where a GPU has more, spares the second pass.
PIECES ?= 8
MINI := build/mini
RECIPES := benchmarks/recipes
TRAIN = $(SHARED)/data/train/train.jsonl
ASKED = --set data.classifier=litert:$(SHARED)/weights/mobilenet_v2_1.0_224_quant.tflite \
    --set data.class_names=$(SHARED)/weights/imagenet_labels.txt
PIECEWISE = --set optimisation.pieces=$(PIECES)
THREE := ./$(MINI)/frozen+./$(MINI)/tuned+./$(MINI)/views
FOUR := ./$(MINI)/frozen+./$(MINI)/views+./$(MINI)/whole+./$(MINI)/kinds
TWO := ./$(MINI)/whole-208+./$(MINI)/third-256
resumed = --cache-frozen $(MINI)/cache --out $(MINI)/$(1) \
    $(if $(wildcard $(MINI)/$(1)/training/checkpoint.pt),--resume)
taught = --teacher "$(2)" --teacher-cache $(MINI)/cache $(call resumed,$(1))

mini: $(READY)  ## train the encoder in the box, into build/mini/int8; SHARED=FOLDER holds data/ and weights/
	$(BIN)/python -m embedsearch.training.mini --data $(SHARED)/data --weights $(SHARED)/weights \
	    --out $(MINI)/frozen --cache $(MINI)/features
	$(BIN)/embedsearch finetune $(TRAIN) --recipe $(RECIPES)/mini-teacher.toml \
	    --encoder mobilenetv2@$(SHARED)/weights/mobilenetv2_imagenet.npz \
	    --text $(SHARED)/weights/potion_base_4m $(ASKED) $(call resumed,tuned)
	$(BIN)/embedsearch finetune $(TRAIN) --recipe $(RECIPES)/mini-teacher-views.toml \
	    --encoder ./$(MINI)/tuned $(ASKED) $(call resumed,views)
	$(BIN)/embedsearch distill $(TRAIN) --recipe $(RECIPES)/mini-student.toml \
	    --student ./$(MINI)/views $(call taught,student,$(THREE))
	$(BIN)/embedsearch distill $(TRAIN) --recipe $(RECIPES)/mini-student-further.toml \
	    --student ./$(MINI)/student $(call taught,second,$(THREE))
	$(BIN)/embedsearch finetune $(TRAIN) --recipe $(RECIPES)/mini-teacher-whole.toml \
	    --encoder mobilenetv2@$(SHARED)/weights/mobilenetv2_imagenet.npz \
	    --text $(SHARED)/weights/potion_base_4m $(ASKED) $(PIECEWISE) $(call resumed,whole)
	$(BIN)/embedsearch finetune $(TRAIN) --recipe $(RECIPES)/mini-teacher-kinds.toml \
	    --encoder ./$(MINI)/second $(ASKED) $(PIECEWISE) $(call resumed,kinds)
	$(BIN)/embedsearch distill $(TRAIN) --recipe $(RECIPES)/mini-third.toml \
	    --student ./$(MINI)/second $(PIECEWISE) $(call taught,third,$(FOUR))
	$(BIN)/embedsearch finetune $(TRAIN) --encoder ./$(MINI)/whole --epochs 0 \
	    --set model.used_at=208 --out $(MINI)/whole-208
	$(BIN)/embedsearch finetune $(TRAIN) --encoder ./$(MINI)/third --epochs 0 \
	    --set model.used_at=256 --out $(MINI)/third-256
	$(BIN)/embedsearch distill $(TRAIN) --recipe $(RECIPES)/mini-taught.toml \
	    --student "(./$(MINI)/third+./$(MINI)/kinds)?join=weights" $(call taught,taught,$(TWO))
	$(BIN)/embedsearch finetune $(TRAIN) --recipe $(RECIPES)/mini.toml \
	    --encoder "(./$(MINI)/third+./$(MINI)/kinds+./$(MINI)/taught)?join=weights" $(call resumed,float32)
	$(BIN)/embedsearch quantize $(MINI)/float32 --photos $(SHARED)/data/train --qat 2 \
	    --out $(MINI)/int8
	$(BIN)/python benchmarks/tasks.py $(SHARED)/data int8=$(MINI)/int8 float32=$(MINI)/float32 \
	    "teachers=$(TWO)" --out $(MINI)/int8/figures.json

yolox: $(READY)  ## train the detector in the box, into build/yolox; SHARED=FOLDER holds data/ and weights/
	$(BIN)/embedsearch finetune --task detect --recipe $(RECIPES)/yolox.toml \
	    $(SHARED)/data/detection/annotations.jsonl --set data.check=$(SHARED)/data/detection/annotations.jsonl \
	    --set "data.photos=['$(TRAIN)']" \
	    --encoder "yolo:$(SHARED)/weights/yolox_nano.onnx?about=$(RECIPES)/yolox_nano.json" \
	    --out build/yolox $(if $(wildcard build/yolox/training/checkpoint.pt),--resume)

raspp: $(READY)  ## train the segmenter in the box, into build/raspp; SHARED=FOLDER holds data/ and weights/
	$(BIN)/embedsearch finetune --task segment --recipe $(RECIPES)/raspp.toml $(TRAIN) \
	    --encoder litert:$(SHARED)/weights/deeplabv3_mnv2_pascal_quant.tflite \
	    --set distill.teacher=litert:$(SHARED)/weights/deeplabv3_mnv2_pascal_quant.tflite \
	    --out build/raspp $(if $(wildcard build/raspp/training/checkpoint.pt),--resume)

clean:  ## remove the virtual environment, the caches and the demo
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# trackers brings opencv-python, which needs the libraries of a desktop and lies in the same folder as
# opencv-python-headless, which rapidocr brings. The latter does for both, and stays alone.
define one_opencv
if $(BIN)/python -m pip show --quiet opencv-python 2>/dev/null; then \
    $(BIN)/python -m pip uninstall --quiet --yes opencv-python && \
    $(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
        opencv-python-headless; \
fi
endef

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "embedsearch needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@$(one_opencv)
	@touch $@
