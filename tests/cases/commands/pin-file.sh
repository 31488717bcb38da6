mkdir specs/pins
printf '%s\n' 'runs:' '  steps:' '    - uses: actions/checkout@v7' '    - uses: actions/setup-go@b7ad1da # v7.0.0' '    - uses: actions/setup-node@820762786026740c76f36085b0efc47a31fe5020' >specs/pins/action.yml
printf '    - uses: %s\n' 'acti0ns/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1' 'actions/setup-python@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.0' 'docker/setup-buildx-action@37fe631027851001ddb9b187196cc803df7f5f0e # v4.4.0' >>specs/pins/action.yml
printf '    - name: %s\n      uses: docker/login-action@dbcb813823bdd20940b903addbd779551569679f # v4.6.0\n' 'frozen' 'frozen at v4.5.0 because it is slow' 'Log in' 'Log in' >>specs/pins/action.yml
kiwari-ci validate
