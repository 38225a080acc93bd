# Images for training and serving; docs/deployment.md describes their use.
#
#   docker build --target train --tag deep-speech:train .
#   docker build --target serve --tag deep-speech:serve .
#
# With an Nvidia GPU: --build-arg TENSORFLOW=gpu. The packages are those of setup.cfg, their versions
# those of constraints/.

FROM python:3.13-slim-bookworm AS base
# Any user can run it: files outside /opt/ml are written to /tmp, and numba's compiled code to a folder
# that may be a volume.
ENV PATH=/opt/program/sagemaker:/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    NUMBA_CACHE_DIR=/var/cache/numba
RUN useradd --uid 1000 --no-create-home speech \
    && install --directory --owner=speech --group=speech /opt/ml /opt/ml/model /opt/ml/output \
    && install --directory --mode=1777 /var/cache/numba

# Packages are installed in these stages; the images copy only the result.
FROM python:3.13-slim-bookworm AS requirements
WORKDIR /build
COPY setup.cfg constraints/3.13.txt ./
RUN python -m venv --without-pip /opt/venv
# Prints the packages of setup.cfg and of some of its extras.
RUN echo "import configparser, sys; found = configparser.RawConfigParser(); \
found.read('setup.cfg'); print(found['options']['install_requires'], \
*(found['options.extras_require'][each] for each in sys.argv[1:]))" > requirements.py

FROM requirements AS train-packages
ARG TENSORFLOW=cpu
RUN python requirements.py ${TENSORFLOW} ffmpeg numbers > requirements.txt
RUN pip --python /opt/venv install --no-cache-dir --constraint 3.13.txt --requirement requirements.txt

FROM requirements AS serve-packages
ARG TENSORFLOW=cpu
RUN python requirements.py ${TENSORFLOW} ffmpeg serve > requirements.txt
RUN pip --python /opt/venv install --no-cache-dir --constraint 3.13.txt --requirement requirements.txt

# SageMaker runs `train`; any door can be run too: docker run IMAGE python training.py --help
FROM base AS train
COPY --from=train-packages /opt/venv /opt/venv
COPY . /opt/program
WORKDIR /opt/program
RUN python -m compileall -q . && python -m speech.decoding.precompile && chmod -R a+rwX /var/cache/numba
# SageMaker requires root, which owns its folder: --build-arg RUN_AS=root.
ARG RUN_AS=speech
USER ${RUN_AS}
CMD ["train"]

# SageMaker runs `serve`; the model is in /opt/ml/model.
FROM base AS serve
COPY --from=serve-packages /opt/venv /opt/venv
COPY . /opt/program
WORKDIR /opt/program
RUN python -m compileall -q . && python -m speech.decoding.precompile && chmod -R a+rwX /var/cache/numba
ARG RUN_AS=speech
USER ${RUN_AS}
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ping', timeout=4)"]
CMD ["serve"]
