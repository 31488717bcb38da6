kiwari-ci validate specs/shpo.yaml
