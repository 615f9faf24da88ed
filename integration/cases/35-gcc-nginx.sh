# SPDX-License-Identifier: Apache-2.0
# gcc compiles, links and runs programs and a shared library on the volume; nginx serves from it.
# image: full
. "$LIB/case.sh"
data=$(new_dir data)
prints "gcc and nginx" '^compiled and served$' run -i -v "$data:/data" $IMAGE_FULL bash -euo pipefail -s <<'G'
cd /data
printf '#include "part.h"\n#include <stdio.h>\nint main(void) { printf("%%d\\n", part(20)); return 0; }\n' > main.c
printf 'int part(int);\n' > part.h
printf '#include "part.h"\nint part(int n) { return n * 2 + 2; }\n' > part.c
gcc -O1 -g -c main.c part.c; gcc -o static-link main.o part.o; [ "$(./static-link)" = 42 ]
gcc -shared -fPIC -o libpart.so part.c; gcc -o dynamic main.c -L. -lpart -Wl,-rpath,/data; [ "$(./dynamic)" = 42 ]
gcc -static -o whole main.o part.o; [ "$(./whole)" = 42 ]
ar rcs libpart.a part.o; gcc -o with-archive main.o libpart.a; [ "$(./with-archive)" = 42 ]
printf '#!/data/whole\n' > script; chmod +x script; [ "$(./script)" = 42 ]
printf '#!/bin/sh\necho "shell $1"\n' > sh-script; chmod +x sh-script; [ "$(./sh-script x)" = "shell x" ]
python3 -c 'import ctypes; print(ctypes.CDLL("/data/libpart.so").part(4))' | grep -qx 10

mkdir -p www ngx; echo '<h1>from the volume</h1>' > www/index.html
head -c 3000000 /dev/urandom > www/blob
cat > ngx/conf <<N
user www-data;
pid /data/ngx/pid;
error_log /data/ngx/error.log;
worker_processes 2;
events { worker_connections 64; }
http {
	access_log /data/ngx/access.log;
	client_body_temp_path /data/ngx/body; proxy_temp_path /data/ngx/p; fastcgi_temp_path /data/ngx/f;
	uwsgi_temp_path /data/ngx/u; scgi_temp_path /data/ngx/s;
	sendfile on;
	server { listen 127.0.0.1:8080; root /data/www; }
}
N
nginx -c /data/ngx/conf
python3 - <<'P'
import concurrent.futures, urllib.request
blob = open("/data/www/blob", "rb").read()
get = lambda p: urllib.request.urlopen("http://127.0.0.1:8080" + p, timeout=20).read()
assert get("/") == b"<h1>from the volume</h1>\n"
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert all(r == blob for r in pool.map(get, ["/blob"] * 24))
P
[ "$(grep -c 'GET /blob' ngx/access.log)" = 24 ]
nginx -c /data/ngx/conf -s stop
echo compiled and served
G
