# make demo   runs the whole pipeline, from a synthetic corpus to a word error rate; needs no data
# make examples   runs the tutorials in English, Spanish and Arabic
# make check   runs lint and the fast tests: in a minute, before each commit
# make test   runs lint and the tests
# make test-all   runs lint and all tests, also those that take minutes
# make check-tpu   compiles the training step for TPUs with check_tpu.py; takes half an hour
# make kenlm   compiles KenLM's programs, with which build_lm.py builds language models of any size
# make docs-flags   writes docs/flags.md from the definitions of the doors' flags
# make bench SPEECH=FOLDER   measures the numbers of docs/benchmarks.md on a folder of speech; decoders
#             read the output of MODEL=FOLDER for TEST=SHARDS, by default the demo's
#
# Each target first makes an environment in .venv, which needs Python 3.11 or 3.10 and a package index.

SUPPORTED = 3.11 3.10
# The first supported Python that runs; override with make PYTHON=/path/to/python3.11.
PYTHON ?= $(shell for version in $(SUPPORTED); do \
	python$$version -c 'import venv, ensurepip' 2>/dev/null && echo python$$version && break; done)
VENV = .venv
RUN = $(VENV)/bin/python
INSTALLED = $(VENV)/installed
# Folder of the demo; make demo DEMO=/elsewhere uses another one.
DEMO = demo
# KenLM's version in the package index, and the Debian packages that its compilation needs.
KENLM_VERSION = 0.3.0
KENLM_NEEDS = cmake make g++ libboost-program-options-dev libboost-system-dev libboost-thread-dev \
	libboost-test-dev
KENLM = .kenlm
# Additional flags for the demo's training, as in make demo DEMO=demo-bfloat16 TRAINING=--bfloat16.
TRAINING =
# The model and the shards that make bench decodes.
MODEL = $(DEMO)/model
TEST = $(DEMO)/shards/test.tfrecords.*

# Two test files at a time; most tests use one core.
SIDE_BY_SIDE = -n 2 --dist loadfile --no-loadscope-reorder

# The rooms whose tests neither train nor run doors, nearly all of them without TensorFlow.
FAST = $(addprefix tests/,audio corpora decoding evaluation features flags html language_model \
	shards text tuning test_docs.py test_text_rules.py test_utils.py)

.PHONY: check demo examples test test-all check-tpu kenlm bench lint docs-flags clean

demo: $(INSTALLED)
	$(RUN) examples/spoken_corpus.py --corpus_dir=$(DEMO)/corpus
	for set in train dev test; do $(RUN) prepare_libri.py --files_path=$(DEMO)/corpus/$$set \
		--tfrecords_file=$(DEMO)/shards/$$set.tfrecords --max_sequence_length=450 \
		--max_label_length=80 || exit 1; done
	$(RUN) training.py --train_data='$(DEMO)/shards/train.tfrecords.*' \
		--dev_data='$(DEMO)/shards/dev.tfrecords.*' --model_dir=$(DEMO)/model \
		--conv_channels=8,16 --stride_size=3 --recurrent_unit_size=128 \
		--train_batch_size=16 --max_epochs=14 --eval_steps=470 --learning_rate=2e-3 \
		--learning_rate_decay_factor=0.88 --clip_gradients=50 \
		--augment='frequency_mask[n=2,size=4~4]' --augment='time_mask[n=2,size=40~40]' $(TRAINING)
	$(RUN) eval.py --model_dir=$(DEMO)/model --test_data='$(DEMO)/shards/test.tfrecords.*' \
		--report_dir=$(DEMO)/report

examples: $(INSTALLED)
	for language in en es ar; do PATH="$(abspath $(VENV))/bin:$$PATH" \
		sh examples/commands/$$language.sh "$(DEMO)/commands-$$language" || exit 1; done

check: lint
	$(RUN) -m pytest -n 2 -m 'not slow' --ignore=tests/decoding/test_compilation.py $(FAST)

test: lint
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m 'not slow'

test-all: lint
	$(RUN) -m pytest $(SIDE_BY_SIDE)

# Compiles the default network for one core of each TPU; a batch takes a minute or two.
check-tpu: $(INSTALLED)
	$(RUN) check_tpu.py --num_tpu_cores=1 --bfloat16 --train_batch_size=8,32,64

kenlm: $(KENLM)/bin/lmplz

# lmplz is copied last, so that it exists only if everything does.
$(KENLM)/bin/lmplz: | $(INSTALLED)
	rm -rf $(KENLM)
	mkdir -p $(KENLM)/source
	$(RUN) -m pip download --quiet --no-deps --no-binary kenlm --dest $(KENLM) kenlm==$(KENLM_VERSION)
	tar -xzf $(KENLM)/kenlm-$(KENLM_VERSION).tar.gz -C $(KENLM)/source --strip-components=1
	{ cmake -S $(KENLM)/source -B $(KENLM)/build -DCMAKE_BUILD_TYPE=Release && \
		cmake --build $(KENLM)/build --parallel $$(nproc) --target lmplz build_binary; } \
		> $(KENLM)/log 2>&1 || { tail -n 20 $(KENLM)/log; echo 'error: KenLM was not compiled, see' \
		'$(KENLM)/log. It needs Debian packages: sudo apt-get install $(KENLM_NEEDS)'; exit 1; }
	mkdir $(KENLM)/bin
	cp $(KENLM)/build/bin/build_binary $(KENLM)/build/bin/lmplz $(KENLM)/bin
	rm -rf $(KENLM)/source $(KENLM)/build

bench: $(INSTALLED)
	@test -n '$(SPEECH)' || { echo 'error: run make bench SPEECH=FOLDER, a folder in the layout of' \
		'LibriSpeech, such as data/LibriSpeech/dev-clean.'; exit 1; }
	$(RUN) benchmarks/prepare.py --files_path='$(SPEECH)'
	$(RUN) benchmarks/prepare_memory.py --files_path='$(SPEECH)'
	$(RUN) benchmarks/read.py --files_path='$(SPEECH)'
	$(RUN) benchmarks/step.py
	$(RUN) -m pip install --quiet --editable '.[cpu,demo,dev,bench]'
	$(RUN) benchmarks/decode.py --model_dir='$(MODEL)' --test_data='$(TEST)' \
		--input_txt='$(SPEECH)/**/*.trans.txt'
	$(RUN) benchmarks/realtime.py --files_path='$(SPEECH)'

lint: $(INSTALLED)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m codespell_lib *.md *.py Makefile setup.cfg docs speech tests examples benchmarks sagemaker
	@if git rev-parse HEAD > /dev/null 2>&1; then $(RUN) -m md_dead_link_check; \
		else echo 'Links are not checked: this folder is not a git repository.'; fi
	$(RUN) docs/flags.py --check

docs-flags: $(INSTALLED)
	$(RUN) docs/flags.py

# Depends on the pinned versions, so that an old environment is updated.
$(INSTALLED): setup.cfg
	@test -n '$(PYTHON)' || { echo 'error: Python 3.11 or 3.10 (with venv) is needed, the versions' \
		'TensorFlow 2.15 has wheels for. Install it, or run make PYTHON=/path/to/python3.11.'; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[cpu,demo,dev]'
	$(RUN) -m pip check
	$(RUN) -m speech.decoding.precompile
	touch $@

clean:
	rm -rf $(VENV) .tpu-check .tpu-check.lock $(KENLM) demo
