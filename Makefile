# make demo   a spoken corpus, shards, training, word error rate: the whole pipeline, no data needed
# make examples   commands in English, Spanish and Arabic, from a text file to a word error rate
# make test   lint and the test suite
# make test-all   the same, and the tests that take minutes
# make check-tpu   compiles the training step for TPUs, as check_tpu.py does: half an hour
# make kenlm   compiles KenLM's programs, by which build_lm.py makes language models of any size
# make docs-flags   writes docs/flags.md from the doors' definitions of their flags
# make bench SPEECH=FOLDER   what docs/benchmarks.md says, measured on a folder of speech; decoders
#             take the output of MODEL=FOLDER for TEST=SHARDS, by default the demo's
#
# Each makes its environment in .venv, which needs Python 3.11 or 3.10 and the package index.

SUPPORTED = 3.11 3.10
# The first supported Python that runs; override with make PYTHON=/path/to/python3.11.
PYTHON ?= $(shell for version in $(SUPPORTED); do \
	python$$version -c 'import venv, ensurepip' 2>/dev/null && echo python$$version && break; done)
VENV = .venv
RUN = $(VENV)/bin/python
INSTALLED = $(VENV)/installed
# Where the demo lives; make demo DEMO=/elsewhere leaves the one in demo/ alone.
DEMO = demo
# KenLM's version in the package index, and what its compilation needs by Debian's names.
KENLM_VERSION = 0.3.0
KENLM_NEEDS = cmake make g++ libboost-program-options-dev libboost-system-dev libboost-thread-dev \
	libboost-test-dev
KENLM = .kenlm
# More flags for the demo's training, as in make demo DEMO=demo-bfloat16 TRAINING=--bfloat16.
TRAINING =
# What make bench decodes.
MODEL = $(DEMO)/model
TEST = $(DEMO)/shards/test.tfrecords.*

# Two files of tests at a time; most tests keep one core busy.
SIDE_BY_SIDE = -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo examples test test-all check-tpu kenlm bench lint docs-flags clean

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

test: lint
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m 'not slow'

test-all: lint
	$(RUN) -m pytest $(SIDE_BY_SIDE)

# What one core of each TPU makes of the default network; a batch takes it a minute or two.
check-tpu: $(INSTALLED)
	$(RUN) check_tpu.py --num_tpu_cores=1 --bfloat16 --train_batch_size=8,32,64

kenlm: $(KENLM)/bin/lmplz

# lmplz comes last: it tells that all is there.
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
	@test -n '$(SPEECH)' || { echo 'error: say make bench SPEECH=FOLDER, a folder in the layout of' \
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
	$(RUN) -m md_dead_link_check
	$(RUN) docs/flags.py --check

# The table of all flags, from the doors' definitions.
docs-flags: $(INSTALLED)
	$(RUN) docs/flags.py

# Rewritten when the pins change, so that an old environment is brought up to date.
$(INSTALLED): setup.cfg
	@test -n '$(PYTHON)' || { echo 'error: Python 3.11 or 3.10 (with venv) is needed, the versions' \
		'TensorFlow 2.15 has wheels for. Install it, or say make PYTHON=/path/to/python3.11.'; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[cpu,demo,dev]'
	$(RUN) -m pip check
	$(RUN) -m speech.decoding.precompile
	touch $@

clean:
	rm -rf $(VENV) .tpu-check .tpu-check.lock $(KENLM) demo
