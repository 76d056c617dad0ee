-- Work in progress has a database of its own beside the catalogue.
CREATE DATABASE workflows OWNER mirv;
