#!/bin/bash
# Runs one monitor, one object storage daemon in memory and one RADOS gateway, until it is told to stop.
# usage: start_ceph.sh DATA SOCKETS RGW_PORT MON_PORT MON_V1_PORT
# DATA: a new folder. SOCKETS: a folder with a short path, since a socket's may have 107 bytes.
set -e
D=$1 S=$2 PORT=$3 MON="[v2:127.0.0.1:$4,v1:127.0.0.1:$5]"
mkdir -p "$D"/{mon,osd,log,rgw,crash}
FSID=$(cat /proc/sys/kernel/random/uuid)
OSD=$(cat /proc/sys/kernel/random/uuid)
cat > "$D/ceph.conf" <<EOC
[global]
fsid = $FSID
mon_host = [v2:127.0.0.1:$4/0,v1:127.0.0.1:$5]
keyring = $D/keyring
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_allow_pool_delete = true
mon_max_pg_per_osd = 1000
run_dir = $S
admin_socket = $S/\$name.asok
pid_file = $S/\$name.pid
log_file = $D/log/\$name.log
mon_cluster_log_file = $D/log/cluster.log
crash_dir = $D/crash
debug_ms = 0
[mon.a]
mon_data = $D/mon
[osd]
osd_data = $D/osd
osd_objectstore = memstore
memstore_device_bytes = 8589934592
memstore_page_set = false
osd_crush_initial_weight = 1
[client.rgw]
rgw_data = $D/rgw
rgw_frontends = beast endpoint=127.0.0.1:$PORT
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 5
rgw_gc_processor_max_time = 5
rgw_dns_name =
EOC
keys="$D/keyring"
ceph-authtool "$keys" --create-keyring --gen-key -n mon. --cap mon 'allow *'
ceph-authtool "$keys" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
ceph-authtool "$keys" --gen-key -n client.rgw --cap mon 'allow *' --cap osd 'allow *'
ceph-authtool "$keys" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
monmaptool --create --fsid "$FSID" --addv a "$MON" "$D/monmap"
ceph-mon -c "$D/ceph.conf" -i a --mkfs --monmap "$D/monmap" --keyring "$keys"
ceph-mon -c "$D/ceph.conf" -i a -f > "$D/log/mon.out" 2>&1 &
for _ in $(seq 100); do rados -c "$D/ceph.conf" lspools > /dev/null 2>&1 && break; sleep .1; done
# The system's Python, whatever environment is active: the command's modules are installed for it.
/usr/bin/python3 "$(command -v ceph)" -c "$D/ceph.conf" osd new "$OSD"
ceph-osd -c "$D/ceph.conf" -i 0 --mkfs --osd-uuid "$OSD" --no-mon-config
ceph-osd -c "$D/ceph.conf" -i 0 -f --osd-uuid "$OSD" > "$D/log/osd.out" 2>&1 &
radosgw-admin -c "$D/ceph.conf" -n client.rgw user create --uid test --display-name test \
    --access-key test --secret testsecret > /dev/null
radosgw -c "$D/ceph.conf" -n client.rgw -f > "$D/log/rgw.out" 2>&1 &
wait
