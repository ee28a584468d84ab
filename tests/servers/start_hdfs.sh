#!/bin/bash
# A NameNode and a DataNode of Hadoop 2.7 on the loopback interface, until this script is stopped.
# usage: start_hdfs.sh FOLDER_OF_JARS EMPTY_FOLDER RPC HTTP DATA IPC WEB    (five free ports)
# Permissions are enforced: whoever starts it is the superuser.
set -eu
JARS=$1 DATA=$2 RPC=$3 HTTP=$4 STREAM=$5 IPC=$6 WEB=$7
mkdir -p "$DATA"/{conf,log} "$DATA"/web/webapps/{hdfs,datanode,secondary}

property() { echo "<property><name>$1</name><value>$2</value></property>"; }

{
    echo '<configuration>'
    property fs.defaultFS "hdfs://127.0.0.1:$RPC"
    property hadoop.tmp.dir "$DATA/tmp"
    echo '</configuration>'
} >"$DATA/conf/core-site.xml"

{
    echo '<configuration>'
    property dfs.namenode.name.dir "$DATA/name"
    property dfs.datanode.data.dir "$DATA/data"
    property dfs.replication 1
    property dfs.webhdfs.enabled false
    property dfs.permissions.enabled true
    property dfs.namenode.http-address "127.0.0.1:$HTTP"
    property dfs.namenode.rpc-bind-host 127.0.0.1
    property dfs.datanode.address "127.0.0.1:$STREAM"
    property dfs.datanode.ipc.address "127.0.0.1:$IPC"
    property dfs.datanode.http.address "127.0.0.1:$WEB"
    property dfs.datanode.hostname 127.0.0.1
    property dfs.namenode.datanode.registration.ip-hostname-check false
    property dfs.namenode.safemode.extension 0
    property dfs.namenode.fs-limits.min-block-size 1024
    echo '</configuration>'
} >"$DATA/conf/hdfs-site.xml"

cat >"$DATA/conf/log4j.properties" <<'X'
log4j.rootLogger=WARN,c
log4j.appender.c=org.apache.log4j.ConsoleAppender
log4j.appender.c.layout=org.apache.log4j.PatternLayout
log4j.appender.c.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
X

OPTIONS=(-Xmx512m -Djava.net.preferIPv4Stack=true "-Dhadoop.home.dir=$DATA" "-Dhadoop.log.dir=$DATA/log")
for package in lang lang.reflect util nio net; do # which Java 17 keeps to itself
    OPTIONS+=("--add-opens=java.base/java.$package=ALL-UNNAMED")
done
OPTIONS+=(--add-opens=java.base/sun.nio.ch=ALL-UNNAMED)

hadoop() { java "${OPTIONS[@]}" -cp "$DATA/conf:$DATA/web:$JARS/*" "org.apache.hadoop.hdfs.server.$@"; }

hadoop namenode.NameNode -format -force -nonInteractive
hadoop namenode.NameNode &
hadoop datanode.DataNode &
wait -n # when one of them ends, the other is of no use
kill 0
