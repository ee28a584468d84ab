#!/usr/bin/env bash
# Installs the test servers that pip does not: `tests/servers/install.sh NAME…`, of azurite, s3rver, hdfs, sftp, ceph and
# nginx. The first three go into .ci/servers. The others, and what those need (node, java), come from Debian's packages, for
# which it takes root or sudo. What is there already is left as it is, so that it can be called each time.
set -euo pipefail
servers="$(cd "$(dirname "$0")/../.." && pwd)/.ci/servers"
mkdir -p "$servers"

have() {
    local program
    for program in "$@"; do command -v "$program" >/dev/null 2>&1 || return 1; done
}

debian() { # the packages
    local -a as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

from_npm() { # program, package with its version
    local place
    have "$1" && return
    for place in "$servers" "$servers/$1"; do [ -e "$place/node_modules/.bin/$1" ] && return; done
    have node npm || debian nodejs npm
    # Saved in its package.json: npm removes what stands in none when it installs the next one.
    npm install --prefix "$servers" --no-fund --no-audit --loglevel error "$2" >/dev/null
}

hadoop() {
    have java || debian openjdk-17-jre-headless
    [ -d "$servers/hadoop/jars" ] && return
    # The source package of this release of PySpark carries Hadoop 2.7.3 with its servers: 220 MB, the smallest source
    # of a real NameNode and DataNode that is on PyPI. pip only looks at its metadata, which takes an old setuptools.
    work=$(mktemp -d "$servers/hadoop-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet 'setuptools<75' wheel
    "$work/venv/bin/python" -m pip download --quiet --no-deps --no-binary :all: --no-build-isolation \
        --dest "$work" pyspark==2.4.8
    mkdir "$work/hadoop"
    tar -xzf "$work"/pyspark-2.4.8.tar.gz -C "$work/hadoop" --strip-components 2 --wildcards '*/deps/jars/*'
    rm -rf "$servers/hadoop"
    mv "$work/hadoop" "$servers/hadoop"
}

for name in "$@"; do
    case "$name" in
    azurite) from_npm azurite-blob azurite@3.35.0 ;;
    s3rver) from_npm s3rver s3rver@3.7.1 ;;
    hdfs) hadoop ;;
    ceph) have ceph-mon ceph-osd radosgw radosgw-admin ceph rados || debian ceph-mon ceph-osd radosgw ceph-common ;;
    sftp) have sshd || [ -x /usr/sbin/sshd ] || debian openssh-server ;;
    nginx) have nginx || debian nginx-light ;;
    *) echo "install.sh: $name is not known: azurite, s3rver, hdfs, sftp, ceph or nginx" >&2 && exit 2 ;;
    esac
done
