#!/bin/sh
# Generates rerankv1/ from the protos. Wants Go, and protoc or what PROTOC names, for example
#   PROTOC="python -m grpc_tools.protoc" ./generate.sh
set -eu
cd "$(dirname "$0")"
proto=${PROTO:-../../../proto}
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
(cd tools && go build -o "$bin/" tool)
PATH="$bin:$PATH" ${PROTOC:-protoc} -I "$proto" \
  --go_out=. --go_opt=module=crossrank/example \
  --go_opt=Mrerank/v1/rerank.proto=crossrank/example/rerankv1 \
  --go-grpc_out=. --go-grpc_opt=module=crossrank/example \
  --go-grpc_opt=Mrerank/v1/rerank.proto=crossrank/example/rerankv1 \
  rerank/v1/rerank.proto
