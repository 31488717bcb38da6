mkdir -p generated/.github/workflows
echo "on: push" >generated/.github/workflows/web-ci.yml
kiwari-ci generate
