#!/bin/sh
# Serves bundles with MONAI Label:  serve.sh ENVIRONMENT FOLDER PORT BUNDLE...
# ENVIRONMENT is what install.sh made. The images are those in FOLDER/studies; the app is made in FOLDER/app with copies
# of the bundles. What is there already stays, with the weights that it has learned.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
environment=$(cd "$1" && pwd) folder=$2 port=$3
shift 3
app=$folder/app
mkdir -p "$folder/studies"
if ! [ -d "$app" ]; then
    cp -r "$environment/monailabel/sample-apps/monaibundle" "$app"
    mv "$app/main.py" "$app/monaibundle.py"
    cp "$here/main.py" "$app/"
fi
models=
for bundle; do
    name=$(basename "$bundle")
    if ! [ -d "$app/model/$name" ]; then
        mkdir -p "$app/model/$name"
        cp -r "$bundle/configs" "$bundle/models" "$app/model/$name/"
    fi
    models=$models${models:+,}$name
done
# The command splits its arguments at spaces, hence the relative paths. Any zoo_source but the default keeps the server
# off the network, and so does sam2 false.
cd "$folder"
PATH=$environment/bin:$PATH exec monailabel start_server --app app --studies studies --host 127.0.0.1 --port "$port" \
    --conf models "$models" --conf zoo_source ngc --conf sam2 false
