mkdir -p .github/workflows
echo "on: push" >.github/workflows/web-ci.yml
kiwari-ci generate
